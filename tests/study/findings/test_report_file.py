"""The report as a value."""

from __future__ import annotations

import webbrowser

import pytest

from cpt_ray import Study


@pytest.fixture
def study(finished_study) -> Study:
    return Study.load(finished_study.study.config)


@pytest.mark.ray
def test_a_report_is_shown_in_a_notebook_and_opened_elsewhere(study, monkeypatch, capsys):
    report = study.report()
    assert report.path.name == "report.html"
    assert f"report:  {report.path}" in capsys.readouterr().out
    page = report._repr_html_()
    assert page.startswith('<iframe srcdoc="&lt;!')
    assert page.count('"') == page.count('="') * 2  # nothing of the report ends the attribute
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    report.show()
    assert opened == [report.path.resolve().as_uri()]
