"""Preparing twice does nothing the second time."""

from __future__ import annotations

import pytest

from tests.cli.said import said, would


@pytest.mark.ray
def test_a_prepared_study_is_reused_and_told_about_again(prepared, capsys):
    before = prepared.files()
    text = said(capsys, "prepare", str(prepared.config))
    assert "  made " not in text
    assert text.count("  reused  ") == 6
    assert text.splitlines()[-1] == f"next: cpt-ray train {prepared.config}"
    after = prepared.files()
    assert {name: entry for name, entry in after.items() if name in before and "/" in name and "logs" not in name} == {
        name: entry for name, entry in before.items() if "/" in name and "logs" not in name
    }


def test_a_dry_run_lists_what_is_prepared_and_no_run(tiny, capsys):
    text = said(capsys, "prepare", str(tiny.config), "--dry-run")
    assert would(text, "make") == {
        "models/tiny", "exams/tiny", "scan/tiny", "documents/tiny", "held_out/tiny", "shards/tiny",
    }  # fmt: skip
