"""The whole study in one verb; a real run is in tests/integration."""

from __future__ import annotations

from tests.cli.said import said, would


def test_a_dry_run_lists_every_artifact_of_the_study(tiny, capsys):
    whole = would(said(capsys, "run", str(tiny.config), "--dry-run"), "make")
    parts = [would(said(capsys, verb, str(tiny.config), "--dry-run"), "make") for verb in ("prepare", "train", "evaluate")]
    assert whole == set.union(*parts)
    assert sum(map(len, parts)) == len(whole) == 14


def test_budgets_that_the_study_cannot_reach_are_refused_before_anything_is_built(tiny, capsys):
    text = said(capsys, "run", str(tiny.config), "train.budgets=[4000, 2000]", code=2)
    assert "train.budgets" in text
    assert not tiny.root.exists()
