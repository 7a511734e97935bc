"""Comparing names its prerequisites."""

from __future__ import annotations

import pytest

from tests.cli.said import said, would
from tests.study.findings.finished_scores import commit, laboratory_at


@pytest.mark.ray
def test_a_study_that_is_only_prepared_must_be_scored_first(prepared, capsys):
    text = said(capsys, "compare", str(prepared.config), code=2)
    assert "has not been built yet under" in text
    assert "fix: run cpt-ray evaluate first, with the same study file and overrides" in text
    assert not (prepared.root / "report.html").exists()


def test_a_dry_run_of_compare_lists_what_it_reads(tiny, capsys):
    text = said(capsys, "compare", str(tiny.config), "--dry-run")
    assert {name.split("/")[0] for name in would(text, "make")} == {"evaluate"}
    assert not tiny.root.exists()


def test_runs_of_finished_studies_are_compared_without_a_study_file(tmp_path, capsys, monkeypatch):
    for name, law, noise in (("a", 1.0, 1e-4), ("b", 0.9, 3e-4)):
        laboratory = laboratory_at(tmp_path / name)
        laboratory.add("legal", 32_000, law=law, noise=noise)
        commit(laboratory)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    runs = ("a:m-legal-32000-seed0", "b:m-legal-32000-seed0")
    text = said(capsys, "compare", *runs)
    assert f"subject: {runs[1]}\nreference: {runs[0]}" in text
    assert "Bits per byte on law fell by 0.1" in text
    assert said(capsys, "compare", *runs, "--dry-run").count("  read   a/evaluate/m-legal-32000-seed0-") == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert "fix: name another one" in said(capsys, "compare", runs[0], code=2)
    assert "fix: name one that it has, such as m-legal-32000-seed0" in said(capsys, "compare", runs[0], "b:m-base", code=2)
