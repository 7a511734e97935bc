"""The time that a stage took."""

from cpt_ray.records import Artifact
from cpt_ray.study.findings.planned import seconds_covered


def made(end: str, seconds: float) -> Artifact:
    return Artifact(
        stage="train", name="x", fingerprint="0", inputs={}, settings={}, files=(), wall_s=seconds, versions={},
        created=f"2026-01-01T00:{end}+00:00",
    )  # fmt: skip


def test_what_was_made_side_by_side_counts_once_and_a_pause_does_not_count():
    # 00:50 to 01:00, inside 00:30 to 01:10; then, after a pause, 02:00 to 02:05.
    assert seconds_covered([made("01:00", 10.0), made("01:10", 40.0), made("02:05", 5.0)]) == 45.0
    assert seconds_covered([]) == 0.0
