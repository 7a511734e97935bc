"""A study is mirrored into MLflow once: again only if its content or the database has changed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from cpt_ray.config.sections.runtime import TrackingConfig
from cpt_ray.edges.tracking.mirrored import default_uri
from cpt_ray.errors import CptRayError
from cpt_ray.study.findings.mirror import Found, MirrorTarget, mirror_study, why_not_mirrored


class FakeTracking:
    """Counts calls, and writes to its database as MLflow does."""

    def __init__(self, database: Path) -> None:
        self.database, self.finished = database, 0

    def finish_study(self, parent: str, **_: Any) -> None:
        self.finished += 1
        self.database.write_bytes(b"x" * self.finished)


@pytest.fixture
def target(tmp_path: Path) -> MirrorTarget:
    return MirrorTarget(
        uri=default_uri(tmp_path), experiment="e", study="s", identity="i", config={"a": 1}, params={}, control_arms=frozenset()
    )


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<html></html>", encoding="utf-8")
    return path


def test_an_unchanged_study_is_mirrored_once_and_a_changed_one_again(target, report, tmp_path, monkeypatch):
    tracking = FakeTracking(tmp_path / "mlflow.db")
    monkeypatch.setattr(MirrorTarget, "open", lambda self, points: (tracking, "parent"))
    found = Found((), {"funnel.csv": "a"})
    mirror_study(target, [], {}, found, report)
    mirror_study(target, [], {}, found, report)
    assert tracking.finished == 1
    report.write_text("<html>another</html>", encoding="utf-8")
    mirror_study(target, [], {}, found, report)
    assert tracking.finished == 2
    mirror_study(target, [], {}, Found((), {"funnel.csv": "b"}), report)
    assert tracking.finished == 3
    tracking.database.unlink()
    mirror_study(target, [], {}, Found((), {"funnel.csv": "b"}), report)
    assert tracking.finished == 4


def test_a_line_that_a_run_wrote_since_is_mirrored(target, report, tmp_path, monkeypatch):
    tracking = FakeTracking(tmp_path / "mlflow.db")
    monkeypatch.setattr(MirrorTarget, "open", lambda self, points: (tracking, "parent"))
    lines = tmp_path / "run" / "metrics" / "attempt-0001.jsonl"
    lines.parent.mkdir(parents=True)
    for content, times in (("{}", 1), ("{}", 1), ("{}\n{}", 2)):
        lines.write_text(content, encoding="utf-8")
        mirror_study(target, [], {"run": tmp_path / "run"}, Found((), {}), report)
        assert tracking.finished == times


def test_a_store_that_cannot_be_reached_is_an_error_with_a_fix(target, report, monkeypatch):
    def unreachable(self, points):
        raise ConnectionError("refused")

    monkeypatch.setattr(MirrorTarget, "open", unreachable)
    with pytest.raises(CptRayError, match=r"MLflow at sqlite.* cannot be reached: refused\n  fix: fix tracking.uri"):
        mirror_study(target, [], {}, Found((), {}), report)


def test_a_study_is_mirrored_unless_it_is_told_not_to_or_mlflow_is_missing(monkeypatch):
    assert why_not_mirrored(TrackingConfig()) is None
    assert why_not_mirrored(TrackingConfig(enabled=False)) == "off (tracking.enabled: false)"
    monkeypatch.setitem(sys.modules, "mlflow", None)
    reason = why_not_mirrored(TrackingConfig())
    assert reason is not None
    assert reason.startswith("not installed, so nothing is mirrored; the report is complete without it (pip install 'mlflow")
    assert why_not_mirrored(TrackingConfig(uri="http://tracker")) is None  # asked for: an error, not a line
