"""Training names its prerequisites."""

from __future__ import annotations

from tests.cli.said import said, would


def test_training_without_preparation_says_to_prepare_first(tiny, capsys):
    text = said(capsys, "train", str(tiny.config), code=2)
    assert "models/tiny-" in text
    assert "fix: run cpt-ray prepare first" in text
    assert not (tiny.root / "train").exists()


def test_a_dry_run_lists_the_runs_and_nothing_else(tiny, capsys):
    text = said(capsys, "train", str(tiny.config), "--dry-run")
    assert would(text, "make") == {
        "train/tiny-legal-trunk-seed0", "train/tiny-legal-2000-seed0", "train/tiny-legal-4000-seed0",
        "train/tiny-control-4000-seed0",
    }  # fmt: skip
