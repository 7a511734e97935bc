"""Which runs a study needs, and what they cost."""

from __future__ import annotations

from pathlib import Path

from cpt_ray.train.runs import cooldown_start, plan_runs, tokens_paid
from tests.train.tiny_run import tiny_config


def test_branches_share_one_trunk_and_the_control_runs_at_the_largest_budget(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path))
    assert [(s.kind, s.arm, s.start_tokens, s.stop_tokens, s.parent) for s in specs] == [
        ("trunk", "legal", 0, 1500, None),
        ("cooldown", "legal", 750, 1000, "tiny-legal-trunk-seed0"),
        ("cooldown", "legal", 1500, 2000, "tiny-legal-trunk-seed0"),
        ("independent", "control", 0, 2000, None),
    ]
    assert specs[0].branch_tokens == (750, 1500)
    assert specs[0].budget_tokens is None


def test_independent_budgets_have_no_trunk(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path, budget_mode="independent", control_budgets="all"))
    assert [s.kind for s in specs] == ["independent"] * 4
    assert tokens_paid(specs) == 6000


def test_a_trunk_is_paid_once(tmp_path: Path):
    specs = [
        s
        for s in plan_runs(tiny_config(tmp_path, budgets=[1000, 2000, 4000], schedule={"cooldown_share": 0.2}))
        if s.arm == "legal"
    ]
    assert tokens_paid(specs) == 3200 + 200 + 400 + 800
    assert tokens_paid(specs) <= 1.15 * 4000


def test_cooldown_start_is_the_budget_less_its_share():
    assert cooldown_start(1000, 0.2) == 800
    assert cooldown_start(1, 0.2) == 1
