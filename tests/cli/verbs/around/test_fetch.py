"""`cpt-ray fetch`."""

from __future__ import annotations

import pytest

from cpt_ray.cli.main import main
from tests.cli.said import said


@pytest.mark.ray
def test_the_report_of_a_finished_study_is_copied_and_named(finished_study, tmp_path, capsys):
    text = said(capsys, "fetch", str(finished_study.study.root), "report", str(tmp_path / "here"))
    assert f"fetched: {tmp_path / 'here' / 'report.html'}" in text
    assert (tmp_path / "here" / "report.html").read_bytes() == (finished_study.study.root / "report.html").read_bytes()


@pytest.mark.ray
def test_a_study_file_does_in_place_of_its_root(finished_study, tmp_path, capsys):
    text = said(capsys, "fetch", str(finished_study.study.config), "scores", str(tmp_path / "here"))
    assert f"fetched: {tmp_path / 'here' / 'evaluate'}" in text


def test_a_folder_that_is_no_study_is_refused_with_a_fix(tmp_path, capsys):
    assert main(["fetch", str(tmp_path), "report"]) == 2
    assert "fix: " in capsys.readouterr().err
