"""`cpt-ray export` refuses what cannot be published, and names what can."""

from __future__ import annotations

import pytest

from tests.cli.said import said
from tests.integration.tiny_study import BUDGETS


@pytest.mark.ray
@pytest.mark.parametrize(
    ("run", "problem"),
    [
        ("base", "tiny-base is the base, which this study did not make"),
        ("tiny-legal-9000-seed0", f"is no budget and no run of the study\n  fix: choose one of tiny-legal-{BUDGETS[0]}-seed0"),
        ("9000", "the study has no model with budget 9000\n  fix: choose one of"),
    ],
)
def test_what_is_no_run_of_the_study_is_refused_with_those_that_are(finished_study, tmp_path, capsys, run, problem):
    text = said(capsys, "export", str(finished_study.study.config), "--run", run, "--to", str(tmp_path / "hub"), code=2)
    assert problem in text
    assert not (tmp_path / "hub").exists()


@pytest.mark.ray
def test_a_file_is_no_folder_to_write_into(finished_study, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert f"--to {file} is a file" in said(capsys, "export", str(finished_study.study.config), "--to", str(file), code=2)
