"""`cpt-ray extend` says what it would do, and refuses budgets that are not larger."""

from __future__ import annotations

import pytest

from cpt_ray.cli.main import main
from tests.cli.said import said


@pytest.fixture
def said_of(tiny, capsys):
    return lambda *arguments, code=0: said(capsys, "extend", str(tiny.config), *arguments, code=code)


def test_a_dry_run_lists_every_run_of_the_larger_study_and_changes_nothing(tiny, said_of):
    before = tiny.config.read_text()
    text = said_of("--budgets", "+4k", "--dry-run")
    assert "  new  tiny-legal-trunk-seed0: 6k tokens, from the base" in text
    assert "  new  tiny-legal-8000-seed0: 2k tokens, from tiny-legal-trunk-seed0 at 6k" in text
    assert "  new  tiny-control-8000-seed0: 8k tokens, from the base" in text
    assert "to train: 17.5k tokens" in text
    assert "no trunk" not in text
    assert "dry run: nothing was changed; the study would have train.budgets=[2k,4k,8k]" in text
    assert tiny.config.read_text() == before
    assert not tiny.root.exists()


def test_a_study_with_one_budget_is_said_to_be_trained_again(tiny, said_of):
    text = said_of("train.budgets=[2k]", "--budgets", "+4k", "--dry-run")
    assert "the study had one budget, and so no trunk that could go on: its arms are trained again from the base" in text


@pytest.mark.parametrize("asked", ["1k", "4k", "-4k", "much"])
def test_what_is_not_a_larger_budget_ends_with_code_two_and_a_fix(tiny, said_of, asked):
    text = said_of(f"--budgets={asked}", code=2)
    assert f"--budgets {asked}" in text
    assert "fix: " in text
    assert "+4" in text
    assert not tiny.root.exists()


def test_without_a_budget_the_usage_is_said(tiny, capsys):
    with pytest.raises(SystemExit):
        main(["extend", str(tiny.config)])
    assert "--budgets" in capsys.readouterr().err
