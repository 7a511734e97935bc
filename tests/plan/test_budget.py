"""The arithmetic of a plan, computed by hand: tokens, steps, FLOPs and rates of every run."""

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.errors import ConfigError
from cpt_ray.plan.budget import plan_study, tokens_for_flops
from cpt_ray.records import StudyPlan
from cpt_ray.train.runs.specs import plan_runs
from tests.plan.planned import SHAPE, make_plan, make_study


def test_tokens_steps_and_flops_follow_the_hand_worked_table():
    plan = make_plan(make_study())
    # 2 rows x 100 slots x 0.95 assumed = 190 tokens per step.
    # FLOPs per token: 6 * (1000 + 10 * 10) + 12 * 2 * 5 * 2 * 50 = 6,600 + 12,000.
    table = {run.run: (run.kind, run.tokens_paid, run.steps, run.flops) for run in plan.runs}
    assert table == {
        "m-legal-trunk-seed0": ("trunk", 3000, 16, pytest.approx(3000 * 18_600)),
        "m-legal-1000-seed0": ("cooldown", 250, 2, pytest.approx(250 * 18_600)),
        "m-legal-4000-seed0": ("cooldown", 1000, 6, pytest.approx(1000 * 18_600)),
        "m-control-4000-seed0": ("independent", 4000, 22, pytest.approx(4000 * 18_600)),
    }
    assert plan.flops == pytest.approx(8250 * 18_600)


def test_measured_flops_are_those_of_all_slots_with_the_keys_of_each_source():
    config = make_study(budgets=(1000,))
    known = {"available": {"law": 9000, "news": 8000}, "rows": {"law": 100, "news": 100}}
    plan = plan_study(config, {"m": SHAPE}, plan_runs(config), **known, measured_keys={"law": 20.0, "news": 10.0})
    # FLOPs per slot: 6,600 + 240 * keys. A row of the legal arm has 0.75 * 90 + 0.25 * 80 = 87.5 tokens.
    legal = 1000 / 87.5 * 100 * (0.75 * (6600 + 240 * 20) + 0.25 * (6600 + 240 * 10))
    control = 1000 / 80 * 100 * (6600 + 240 * 10)
    assert plan.measured_flops == pytest.approx(legal + control)
    assert plan.measured_keys == {"law": 20.0, "news": 10.0}
    assert plan.flops == pytest.approx(2000 * 18_600)  # the convention stays beside it
    assert make_plan(config).measured_flops is None


def test_tokens_paid_is_compared_with_a_run_per_budget():
    plan = make_plan(make_study())
    assert (plan.tokens_seen, plan.tokens_paid, plan.tokens_independent) == (4000, 8250, 9000)
    assert plan.paid_ratio == pytest.approx(8250 / 9000)
    independent = make_plan(make_study(mode="independent"))
    assert independent.paid_ratio == 1.0


def test_an_uneven_batch_split_is_part_of_the_plan():
    assert make_plan(make_study()).idle is None
    config = make_study()
    uneven = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": 3})})
    assert "33.3 % of the computed rows are idle" in str(make_plan(uneven).idle)
    by_memory = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": "auto"})})
    assert make_plan(by_memory).idle is None  # it divides the rows


def test_a_model_without_a_shape_is_named():
    config = make_study()
    with pytest.raises(ConfigError) as caught:
        plan_study(config, {}, plan_runs(config), None)
    assert caught.value.problem == "no shape is known for model 'm'; known: none"
    assert caught.value.fix == "check models.m.base: its configuration could not be read"


def test_a_plan_survives_json():
    plan = make_plan(make_study(), {"law": 0, "news": 1})
    assert StudyPlan.from_json(plan.to_json()) == plan


def test_the_plan_of_a_chain_shows_each_stage_with_its_rates():
    chain = {"rewarm": 100, "rewarm_from": "previous_final", "peak_share": 0.5, "optimizer": "kept"}
    schedule = {"cooldown_share": 0.25, "final_share": 0.1, "warmup": 50}
    plan = make_plan(make_study(mode="chain", chain=chain, schedule=schedule))
    first, second = [run for run in plan.runs if run.arm == "legal"]
    assert (first.start_tokens, first.cooldown_start_tokens, first.stop_tokens, first.tokens_paid) == (0, 750, 1000, 1000)
    assert (second.start_tokens, second.cooldown_start_tokens, second.stop_tokens, second.tokens_paid) == (
        1000,
        3250,
        4000,
        3000,
    )
    assert (first.start_rate, first.peak_rate, first.end_rate) == (0, 1e-4, pytest.approx(1e-5))
    assert (second.start_rate, second.peak_rate, second.end_rate) == (pytest.approx(1e-5), 5e-5, pytest.approx(5e-6))
    assert (plan.tokens_paid, plan.tokens_independent) == (8000, 10_000)


def test_flops_buy_each_model_its_own_tokens():
    # 18,600 FLOPs per token at 50 keys; a model with twice the body: 6 * (2000 + 100) + 12,000 = 24,600.
    larger = SHAPE.model_copy(update={"body_parameters": 2000})
    assert tokens_for_flops((18_600 * 1000, 1e8), SHAPE, sequence_length=100) == (1000, 5376)
    assert tokens_for_flops((18_600 * 1000, 1e8), larger, sequence_length=100) == (756, 4065)


def test_at_equal_compute_every_model_s_budget_is_the_same_flops_to_a_token():
    config = make_study(budgets=None, budgets_flops=[2e7, 1e8])
    larger = SHAPE.model_copy(update={"body_parameters": 2000})
    tree = config.model_dump(mode="json", exclude_none=True)
    tree["models"].append({"name": "large", "base": "nowhere"})
    config, shapes = parse_study(tree, place="test"), {"m": SHAPE, "large": larger}
    budgets = {name: tokens_for_flops((2e7, 1e8), shape, sequence_length=100) for name, shape in shapes.items()}
    plan = plan_study(config, shapes, plan_runs(config, budgets))
    assert [(b.model, b.budget_tokens) for b in plan.budgets] == [("m", 1075), ("m", 5376), ("large", 813), ("large", 4065)]
    for budget, flops in zip(plan.budgets, (2e7, 1e8, 2e7, 1e8), strict=True):
        assert flops - budget.flops_per_token < budget.flops <= flops
    assert plan.budgets_key == "train.budgets_flops"
