"""The cost of a study, before and after preparation."""

from __future__ import annotations

import pytest

from tests.cli.said import said


def test_the_plan_of_an_unprepared_study_says_what_it_does_not_know(tiny, capsys):
    text = said(capsys, "plan", str(tiny.config))
    assert "tokens seen  4k by the model that sees the most" in text
    assert "tokens paid  8.5k of 10k (85 % of running each budget independently)" in text
    assert "FLOPs, attention over 32 keys on average" in text
    assert "unknown until prepared" in text
    assert "assumed until prepared" in text
    assert not tiny.root.exists()


@pytest.mark.ray
def test_the_plan_of_a_prepared_study_counts_tokens_epochs_and_steps_per_arm(prepared, capsys):
    text = said(capsys, "plan", str(prepared.config))
    assert "unknown until prepared" not in text
    assert "counted in the shards" in text
    rows = [line.split() for line in text.splitlines()]
    needs = {(row[0], row[1], row[3]): row for row in rows if len(row) == 8 and row[0] in ("legal", "control")}
    assert set(needs) == {
        ("legal", "law", "2k"),
        ("legal", "news", "2k"),
        ("legal", "law", "4k"),
        ("legal", "news", "4k"),
        ("control", "news", "4k"),
    }
    assert all(0 < float(row[6]) < 1 for row in needs.values())  # epochs
    runs = {row[0]: row for row in rows if row and row[0].startswith("tiny-")}
    assert runs["tiny-legal-trunk-seed0"][1:6] == ["trunk", "0", "3k", "-", "3k"]
    assert runs["tiny-legal-4000-seed0"][1:6] == ["cooldown", "3k", "4k", "3k", "1k"]
    assert all(row[6].startswith("~") and float(row[7]) > 0 for row in runs.values())
    assert "Memory and disk, in GiB" in text


def test_a_plan_says_which_verb_is_next(tiny, capsys):
    config = str(tiny.config)
    assert said(capsys, "plan", config).splitlines()[-1] == f"next: cpt-ray run {config}"


@pytest.mark.ray
def test_a_budget_that_the_text_does_not_last_for_is_refused(prepared, capsys):
    text = said(capsys, "plan", str(prepared.config), "train.budgets=[2000, 4000000]", code=2)
    assert "max_epochs" in text
