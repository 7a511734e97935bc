"""The report names its prerequisites."""

from __future__ import annotations

import pytest

from tests.cli.said import said, would


@pytest.mark.ray
def test_a_study_that_is_only_prepared_must_be_scored_first(prepared, capsys):
    text = said(capsys, "report", str(prepared.config), code=2)
    assert "has not been built yet under" in text
    assert "fix: run cpt-ray evaluate first, with the same study file and overrides" in text
    assert not (prepared.root / "report.html").exists()


def test_a_dry_run_of_report_lists_what_it_reads(tiny, capsys):
    text = said(capsys, "report", str(tiny.config), "--dry-run")
    assert {name.split("/")[0] for name in would(text, "make")} == {"train", "evaluate"}
    assert not tiny.root.exists()
