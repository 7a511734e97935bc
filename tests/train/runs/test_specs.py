"""Which runs a study needs, and what they cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.train.runs.specs import plan_runs, tokens_paid, tokens_paid_ratio, trajectory_specs
from tests.train.tiny_run import tiny_config

CHAIN = {"rewarm": 50, "rewarm_from": "previous_final", "peak_share": 0.5, "optimizer": "fresh"}


def with_models(config: StudyConfig, *models: dict[str, object]) -> StudyConfig:
    tree = config.model_dump(mode="json", exclude_none=True)
    return parse_study({**tree, "models": [{"base": "b", **model} for model in models]}, place="test")


def test_branches_share_one_trunk_and_the_control_runs_at_the_largest_budget(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path))
    assert [(s.kind, s.arm, s.start_tokens, s.stop_tokens, s.parent, s.optimizer) for s in specs] == [
        ("trunk", "legal", 0, 1500, None, "fresh"),
        ("cooldown", "legal", 750, 1000, "tiny-legal-trunk-seed0", "kept"),
        ("cooldown", "legal", 1500, 2000, "tiny-legal-trunk-seed0", "kept"),
        ("independent", "control", 0, 2000, None, "fresh"),
    ]
    assert specs[0].branch_tokens == (750, 1500)
    assert specs[0].budget_tokens is None
    assert [s.schedule.decay_start_tokens for s in specs] == [None, 750, 1500, 1500]
    assert {s.schedule.warmup_tokens for s in specs} == {100}


def test_an_independent_study_has_a_run_per_budget_with_its_own_cooldown(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path, budget_mode="independent", control_budgets="all"))
    assert [s.kind for s in specs] == ["independent"] * 4
    assert [s.schedule.decay_start_tokens for s in specs[:2]] == [750, 1500]
    assert tokens_paid(specs) == 2 * (1000 + 2000)


def test_a_chain_goes_on_from_each_budget_and_its_control_runs_every_stage(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path, budget_mode="chain", chain=CHAIN))
    assert [(s.name, s.kind, s.start_tokens, s.stop_tokens, s.parent, s.optimizer, s.branch_tokens) for s in specs[:2]] == [
        ("tiny-legal-1000-seed0", "chain", 0, 1000, None, "fresh", (1000,)),
        ("tiny-legal-2000-seed0", "chain", 1000, 2000, "tiny-legal-1000-seed0", "fresh", ()),
    ]
    assert [s.name for s in specs[2:]] == ["tiny-control-1000-seed0", "tiny-control-2000-seed0"]
    first, second = (s.schedule for s in specs[:2])
    assert (first.warmup_start_tokens, first.warmup_tokens, first.decay_start_tokens, first.peak_rate) == (0, 100, 750, 1e-3)
    assert (second.warmup_start_tokens, second.warmup_tokens, second.decay_start_tokens) == (1000, 50, 1750)
    assert second.peak_rate == 5e-4
    assert tokens_paid(specs[:2]) == 2000
    kept = plan_runs(tiny_config(tmp_path, budget_mode="chain", chain={**CHAIN, "optimizer": "kept"}))
    assert kept[1].optimizer == "kept"


def test_every_stage_of_a_chain_has_the_same_peak_however_many_there_are(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path, budgets=[1000, 2000, 3000], budget_mode="chain", chain=CHAIN))
    assert [s.schedule.peak_rate for s in specs[:3]] == [1e-3, 5e-4, 5e-4]


def test_a_single_budget_is_one_run_in_every_mode(tmp_path: Path):
    plans = [plan_runs(tiny_config(tmp_path, budgets=[1000], budget_mode=mode)) for mode in ("branch", "chain", "independent")]
    assert plans[0] == plans[1] == plans[2]
    assert [s.kind for s in plans[0]] == ["independent", "independent"]


def test_a_trunk_is_paid_once_at_twenty_percent_cooldown(tmp_path: Path):
    """Trunk 0.8 D, cooldowns 0.2 (1/4 + 1/2 + 1) D: 1.15 D for what costs 1.75 D as separate runs."""
    settings = {"budgets": [250_000, 500_000, 1_000_000], "schedule": {"cooldown_share": 0.2}}
    branch = [s for s in plan_runs(tiny_config(tmp_path, **settings)) if s.arm == "legal"]
    assert tokens_paid(branch) == 1_150_000
    assert tokens_paid_ratio(branch) == 1.15
    alone = [s for s in plan_runs(tiny_config(tmp_path, **settings, budget_mode="independent")) if s.arm == "legal"]
    assert tokens_paid_ratio(alone) == 1.75


def test_the_default_warm_up_is_one_percent_of_the_smallest_budget(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path, schedule={}))
    assert {spec.schedule.warmup_tokens for spec in specs} == {10}


def test_a_rate_of_the_base_is_resolved_for_each_model(tmp_path: Path):
    config = tiny_config(tmp_path, learning_rate=1.0)
    two = with_models(
        config,
        {"name": "small", "peak_learning_rate": 3e-3, "final_learning_rate": 3e-4},
        {"name": "large", "peak_learning_rate": 1e-3, "final_learning_rate": 5e-5},
    )
    tree = two.model_dump(mode="json", exclude_none=True)
    tree["train"] |= {"learning_rate": "base_peak", "learning_rate_factor": 0.1}
    tree["train"]["schedule"]["warmup_from"] = "base_final"
    tree["models"][0]["final_learning_rate"] = 1e-4
    specs = plan_runs(parse_study(tree, place="test"))
    rates = {s.model: (s.schedule.start_rate, s.schedule.peak_rate) for s in specs}
    assert rates == {"small": (1e-4, pytest.approx(3e-4)), "large": (5e-5, pytest.approx(1e-4))}
    tree["train"] |= {"learning_rate": "base_final", "learning_rate_factor": 1.0}
    peaks = {s.model: s.schedule.peak_rate for s in plan_runs(parse_study(tree, place="test"))}
    assert peaks == {"small": 1e-4, "large": 5e-5}


def test_budgets_of_each_model_are_recorded_with_the_flops_they_came_from(tmp_path: Path):
    tree = tiny_config(tmp_path).model_dump(mode="json", exclude_none=True)
    del tree["train"]["budgets"]
    tree["train"]["budgets_flops"] = [1e9, 4e9]
    config = parse_study(tree, place="test")
    specs = plan_runs(config, {"tiny": (1000, 4000)})
    assert [(s.budget_tokens, s.budget_flops) for s in specs] == [(None, None), (1000, 1e9), (4000, 4e9), (4000, 4e9)]


def test_trajectory_marks_lie_on_the_trunk_and_on_the_constant_part_of_the_control(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path, trajectory_tokens=[300, 1500]))
    assert {s.name: s.trajectory_tokens for s in specs if s.trajectory_tokens} == {
        "tiny-legal-trunk-seed0": (300, 1500),
        "tiny-control-2000-seed0": (300, 1500),
    }
    points = trajectory_specs(specs)
    assert [(p.name, p.kind, p.parent, p.stop_tokens, p.budget_tokens) for p in points[:2]] == [
        ("tiny-legal-trajectory-300-seed0", "trajectory", "tiny-legal-trunk-seed0", 300, None),
        ("tiny-legal-trajectory-1500-seed0", "trajectory", "tiny-legal-trunk-seed0", 1500, None),
    ]
    assert tokens_paid(points) == 0


def test_trajectory_points_double_up_to_where_the_cooldown_begins(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path, trajectory_points=4))
    assert specs[0].trajectory_tokens == (188, 375, 750, 1500)


def test_of_independent_runs_only_the_longest_is_scored_on_its_way(tmp_path: Path):
    specs = plan_runs(tiny_config(tmp_path, trajectory_points=1, budget_mode="independent"))
    assert [s.trajectory_tokens for s in specs if s.arm == "legal"] == [(), (1500,)]
