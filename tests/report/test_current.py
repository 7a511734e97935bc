"""A page carries a fingerprint of its inputs, so that an up-to-date page is not rendered again."""

from dataclasses import replace
from pathlib import Path

from cpt_ray.report.current import is_current, report_fingerprint
from cpt_ray.report.page import write_report
from tests.report.made_up import make_contents


def test_a_page_is_current_until_anything_that_it_shows_changes(tmp_path: Path) -> None:
    contents, path = make_contents(), tmp_path / "report.html"
    assert not is_current(path, report_fingerprint(contents))
    write_report(path, contents)
    assert is_current(path, report_fingerprint(make_contents()))
    path.with_suffix(".json").unlink()
    assert not is_current(path, report_fingerprint(contents))
    write_report(path, contents)
    others = (
        replace(contents, base_note="another"),
        replace(contents, runs=contents.runs[:-1]),
        replace(contents, evals=contents.evals[1:]),
        replace(contents, stage_timings={**contents.stage_timings, "train": 1.0}),
    )
    for other in others:
        assert not is_current(path, report_fingerprint(other))
