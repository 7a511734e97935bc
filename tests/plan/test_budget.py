"""The arithmetic of a plan, worked by hand, and the refusal of too many passes over a source."""

from typing import Any

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.parameters import ModelShape
from cpt_ray.plan.budget import StudyPlan, check_cooldowns, check_epochs, plan_study, tokens_for_flops
from cpt_ray.train.runs.specs import plan_runs

SHAPE = ModelShape(
    parameters=1100,
    body_parameters=1000,
    hidden_size=10,
    num_layers=2,
    num_heads=5,
    head_dim=2,
    vocabulary_size=10,
    tied=True,
)


def make_study(
    budgets: tuple[int, ...] | None = (1000, 4000),
    mode: str = "branch",
    max_epochs: float = 1.0,
    arm: dict[str, Any] | None = None,
    **train: Any,
) -> StudyConfig:
    tree: dict[str, Any] = {
        "study": {"name": "tiny", "root": "runs/tiny"},
        "models": [{"name": "m", "base": "nowhere"}],
        "sources": [
            {"name": "law", "role": "domain", "path": "law.jsonl", "format": "jsonl"},
            {"name": "news", "role": "general", "path": "news.jsonl", "format": "jsonl"},
        ],
        "prepare": {"pack": {"sequence_length": 100}},
        "arms": {
            "legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}, "max_epochs": max_epochs, **(arm or {})},
            "control": {"role": "control", "mix": {"news": 1.0}},
        },
        "train": {
            "budgets": budgets and list(budgets),
            "budget_mode": mode,
            "learning_rate": 1e-4,
            "schedule": {"cooldown_share": 0.25},
            "global_batch_size": 2,
            "deepspeed": "ds.json",
            **train,
        },
    }
    return parse_study(tree, place="test")


def make_plan(config: StudyConfig, available: dict[str, int] | None = None, rows: dict[str, int] | None = None) -> StudyPlan:
    return plan_study(config, {"m": SHAPE}, plan_runs(config), available, rows=rows)


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


def test_tokens_paid_is_compared_with_a_run_per_budget():
    plan = make_plan(make_study())
    assert (plan.tokens_seen, plan.tokens_paid, plan.tokens_independent) == (4000, 8250, 9000)
    assert plan.paid_ratio == pytest.approx(8250 / 9000)
    independent = make_plan(make_study(mode="independent"))
    assert independent.paid_ratio == 1.0


def test_needs_are_unknown_until_prepared_and_are_then_not_judged():
    plan = make_plan(make_study())
    assert {need.available_tokens for need in plan.needs} == {None}
    assert {need.epochs for need in plan.needs} == {None}
    assert not plan.fill_measured
    check_epochs(plan)


def test_needs_follow_the_mix_and_the_budgets_of_each_arm():
    plan = make_plan(make_study(), {"law": 6000, "news": 4000})
    rows = [(need.arm, need.budget_tokens, need.source, need.needed_tokens, need.epochs) for need in plan.needs]
    assert rows == [
        ("legal", 1000, "law", 750, 0.125),
        ("legal", 1000, "news", 250, 0.0625),
        ("legal", 4000, "law", 3000, 0.5),
        ("legal", 4000, "news", 1000, 0.25),
        ("control", 4000, "news", 4000, 1.0),
    ]
    check_epochs(plan)


def test_counted_rows_turn_a_mix_of_rows_into_tokens():
    # law rows hold 90 tokens, news rows 30: the mix 3 to 1 in rows is 9 to 1 in tokens, 75 tokens per row.
    plan = make_plan(make_study(), {"law": 9000, "news": 3000}, {"law": 100, "news": 100})
    need = {(n.arm, n.source, n.budget_tokens): n.needed_tokens for n in plan.needs}
    assert need["legal", "law", 1000] == 900
    assert need["legal", "news", 1000] == 100
    assert plan.tokens_per_step["legal"] == pytest.approx(150)
    assert plan.fill_share["legal"] == pytest.approx(0.75)
    assert plan.fill_measured


def test_a_budget_of_too_many_passes_is_refused_with_what_would_fit():
    plan = make_plan(make_study(), {"law": 1200, "news": 4000})
    with pytest.raises(ConfigError) as caught:
        check_epochs(plan)
    assert caught.value.problem == (
        "arms.legal at budget 4k needs 3k tokens of source law (weight 0.75), but there are 1.2k: 2.50 epochs, "
        "and arms.legal.max_epochs is 1"
    )
    assert caught.value.fix == (
        "set arms.legal.max_epochs to at least 2.5 to allow repeats, or lower train.budgets to at most 1600, "
        "the largest that fits this arm"
    )


def test_both_numbers_of_the_fix_work():
    available = {"law": 1200, "news": 4000}
    check_epochs(make_plan(make_study(max_epochs=2.5), available))
    check_epochs(make_plan(make_study(budgets=(1000, 1600)), available))
    with pytest.raises(ConfigError, match=r"at budget 1\.6k"):
        check_epochs(make_plan(make_study(budgets=(1000, 1602)), available))


SCHEDULE = {"segments": [{"from": 500, "mix": {"news": 1.0}}], "cooldown_mix": {"law": 1.0}}


def test_needs_follow_the_segments_and_the_cooldown_of_each_budget():
    plan = make_plan(make_study(arm=SCHEDULE), {"law": 6000, "news": 4000})
    # Budget 1000: 500 tokens of 3 to 1, 250 of news, 250 of law. Budget 4000: 500, 2500 and 1000.
    need = {(n.budget_tokens, n.source): (n.needed_tokens, n.weight) for n in plan.needs if n.arm == "legal"}
    assert need == {
        (1000, "law"): (625, pytest.approx(0.625)),
        (1000, "news"): (375, pytest.approx(0.375)),
        (4000, "law"): (1375, pytest.approx(1375 / 4000)),
        (4000, "news"): (2625, pytest.approx(2625 / 4000)),
    }
    assert [(m.budget_tokens, m.from_tokens, m.weights) for m in plan.mixes if m.arm == "legal"] == [
        (1000, 0, {"law": 0.75, "news": 0.25}),
        (1000, 500, {"news": 1.0}),
        (1000, 750, {"law": 1.0}),
        (4000, 0, {"law": 0.75, "news": 0.25}),
        (4000, 500, {"news": 1.0}),
        (4000, 3000, {"law": 1.0}),
    ]


def test_the_largest_budget_of_a_schedule_fits_and_one_more_does_not():
    available = {"law": 6000, "news": 2000}
    plan = make_plan(make_study(arm=SCHEDULE), available)
    with pytest.raises(ConfigError, match=r"source news .*: 1\.31 epochs, and arms\.legal\.max_epochs is 1"):
        check_epochs(plan)
    largest = plan.largest_budget["legal"]
    needs = {budget: make_plan(make_study((500, budget), arm=SCHEDULE), available).needs for budget in (largest, largest + 3)}
    fits = {
        budget: all(n.needed_tokens <= 2000 for n in of if n.source == "news" and n.arm == "legal")
        for budget, of in needs.items()
    }
    assert fits == {largest: True, largest + 3: False}


def test_a_source_may_have_a_limit_of_its_own():
    available = {"law": 1200, "news": 4000}
    check_epochs(make_plan(make_study(arm={"max_epochs_of": {"law": 2.5}}), available))
    with pytest.raises(ConfigError) as caught:
        check_epochs(make_plan(make_study(max_epochs=9, arm={"max_epochs_of": {"law": 2}}), available))
    assert "2.50 epochs, and arms.legal.max_epochs_of.law is 2" in caught.value.problem
    assert "set arms.legal.max_epochs_of.law to at least 2.5" in caught.value.fix


def test_an_uneven_deal_is_part_of_the_plan():
    assert make_plan(make_study()).idle is None
    config = make_study()
    uneven = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": 3})})
    assert "33.3 % of the computed rows are idle" in str(make_plan(uneven).idle)


def test_a_source_with_nothing_left_is_refused_by_name():
    with pytest.raises(ConfigError) as caught:
        check_epochs(make_plan(make_study(), {"law": 0, "news": 4000}))
    assert caught.value.problem == (
        "arms.legal at budget 1k needs 750 tokens of source law (weight 0.75), but not one is left of it"
    )
    assert caught.value.fix == "check what prepare dropped from law, or take it out of arms.legal.mix"


def test_a_model_without_a_shape_is_named():
    config = make_study()
    with pytest.raises(ConfigError) as caught:
        plan_study(config, {}, plan_runs(config), None)
    assert caught.value.problem == "no shape is known for model 'm'; known: none"
    assert caught.value.fix == "check models.m.base: its configuration could not be read"


def test_a_plan_survives_json():
    plan = make_plan(make_study(), {"law": 0, "news": 1})
    assert StudyPlan.from_json(plan.to_json()) == plan


def test_a_cooldown_shorter_than_a_step_is_refused():
    check_cooldowns(make_plan(make_study((1000, 4000))))  # 250 tokens of cooldown, 190 per step
    with pytest.raises(
        ConfigError, match="run m-legal-700-seed0 cools down over 175 tokens, less than one optimizer step"
    ) as error:
        check_cooldowns(make_plan(make_study((700, 4000))))
    assert "train.schedule.cooldown_share" in error.value.fix


def test_an_independent_run_whose_cooldown_is_shorter_than_a_step_is_refused_too():
    check_cooldowns(make_plan(make_study((760,), "independent")))  # 190 tokens of cooldown, 190 per step
    with pytest.raises(ConfigError, match="run m-legal-750-seed0 cools down over 188 tokens"):
        check_cooldowns(make_plan(make_study((750,), "independent")))


def test_trajectory_marks_closer_than_a_step_are_refused():
    check_cooldowns(make_plan(make_study(trajectory_tokens=(190, 380, 3000))))
    with pytest.raises(ConfigError) as caught:
        check_cooldowns(make_plan(make_study(trajectory_tokens=(190, 379))))
    assert caught.value.problem == (
        "run m-legal-trunk-seed0: the trajectory marks 190 and 379 are closer than one optimizer step of about 190 tokens: "
        "they would be the same model"
    )
    assert (
        caught.value.fix == "space train.trajectory_tokens wider, or lower train.trajectory_points or train.global_batch_size"
    )


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


def test_too_many_passes_of_a_budget_in_flops_name_that_key():
    config = make_study(budgets=None, budgets_flops=[1e8])
    plan = plan_study(config, {"m": SHAPE}, plan_runs(config, {"m": (4000,)}), {"law": 1200, "news": 4000})
    with pytest.raises(ConfigError) as caught:
        check_epochs(plan)
    assert "or lower train.budgets_flops to at most 1600 tokens, the largest that fits this arm" in caught.value.fix
