"""Conflicts between budgets, schedule and base rates: each message, and both sides of each boundary."""
# ruff: noqa: E501  (a table of messages is read by its columns)

import pytest

from cpt_ray.config.budgets import cooldown_start
from cpt_ray.config.load import parse_study
from cpt_ray.errors import ConfigError
from tests.config.spoiled import refusal, spoil

CHAIN = {"rewarm": 1000, "rewarm_from": "previous_final", "peak_share": 1, "optimizer": "kept"}


def read(tree, models=None, **train):
    """Budgets are 10k and 20k, so their cooldowns begin at 8k and 16k."""
    tree["train"] |= train
    tree["models"][0] |= models or {}
    return parse_study(tree, place="study.yaml")


REFUSED = {
    "both kinds of budget": (
        {"budgets_flops": [1e18]},
        "train needs one of budgets (tokens) and budgets_flops, saw both",
    ),
    "no budget": (
        {"budgets": None},
        "train needs one of budgets (tokens) and budgets_flops, saw neither",
    ),
    "falling FLOPs": (
        {"budgets": None, "budgets_flops": [2e18, 1e18]},
        "train.budgets_flops must be above 0 and ascend without repeats, saw [2e+18, 1e+18]",
    ),
    "a branch of a cosine": (
        {"schedule": {"shape": "cosine"}},
        "train.schedule.shape is cosine and train.budget_mode is branch, but a checkpoint from the middle of a cosine run has "
        "not decayed and is not a budget; set train.schedule.shape to constant_cooldown, or train.budget_mode to chain or independent",
    ),
    "a branch of nothing": (
        {"schedule": {"cooldown_share": 1, "warmup": 0}},
        "train.schedule.cooldown_share is 1, so there is no constant part to branch from; lower it, or set train.budget_mode to "
        "independent",
    ),
    "a chain without its rule": (
        {"budget_mode": "chain"},
        "train.budget_mode is chain, but train.chain is not set, which says how a later stage starts; for example set train.chain: "
        "{rewarm: 4M, rewarm_from: previous_final, peak_share: 1, optimizer: kept}",
    ),
    "a chain below its end": (
        {"budget_mode": "chain", "chain": {**CHAIN, "peak_share": 0.05}, "schedule": {"final_share": 0.1}},
        "train.chain.peak_share is 0.05, below train.schedule.final_share, 0.1, so a later stage would begin above its peak; "
        "set train.chain.peak_share to at least 0.1",
    ),
    "a warm-up into the cooldown": (
        {"schedule": {"warmup": 8001}},
        "train.schedule.warmup is 8001 tokens, but the cooldown of the smallest budget, 10000, begins at 8000; set "
        "train.schedule.warmup to at most 8000",
    ),
    "a warm-up that leaves a cosine nothing": (
        {"budgets": [1000], "schedule": {"shape": "cosine", "warmup": 1000}},
        "train.schedule.warmup is 1000 tokens, but the cooldown of the smallest budget, 1000, begins at 999; set "
        "train.schedule.warmup to at most 999",
    ),
    "a re-warm-up into the cooldown": (
        {"budget_mode": "chain", "chain": {**CHAIN, "rewarm": 8001}},
        "train.chain.rewarm is 8001 tokens, but the cooldown of the stage from 10000 to 20000 begins 8000 tokens after its "
        "start; set train.chain.rewarm to at most 8000",
    ),
    "two trajectories": (
        {"trajectory_tokens": [100], "trajectory_points": 3},
        "train.trajectory_tokens and train.trajectory_points both choose the trajectory points; set only one of them",
    ),
    "a mark in the cooldown": (
        {"trajectory_tokens": [100, 16_001]},
        "train.trajectory_tokens gives the marks [100, 16001], which must be above 0, ascend without repeats, and fall where the "
        "rate is constant: at most 16000, where the cooldown of the largest budget begins",
    ),
    "a mark at the base": (
        {"trajectory_tokens": [0]},
        "train.trajectory_tokens gives the marks [0], which must be above 0, ascend without repeats",
    ),
    "more points than tokens": (
        {"budgets": [100], "trajectory_points": 12},
        "train.trajectory_points gives the marks [0, 0, 0, 0, 1, 1, 2, 5, 10, 20, 40, 80], which must be above 0",
    ),
    "points of a cosine": (
        {"budgets": [1000], "schedule": {"shape": "cosine"}, "trajectory_points": 3},
        "train.trajectory_points needs a constant learning rate, and train.schedule.shape cosine has no constant part; "
        "set train.schedule.shape to constant_cooldown",
    ),
    "points of a chain": (
        {"budget_mode": "chain", "chain": CHAIN, "trajectory_tokens": [100]},
        "train.trajectory_tokens needs one constant-rate trunk, and train.budget_mode chain has none; set "
        "train.budget_mode to branch or independent",
    ),
    "an unknown peak": (
        {"learning_rate": "base_peak"},
        "train.learning_rate is base_peak, but models.tiny.peak_learning_rate is not set; set models.tiny.peak_learning_rate to "
        "the value in the base's model card",
    ),
    "an unknown final rate": (
        {"learning_rate": "base_final"},
        "train.learning_rate is base_final, but models.tiny.final_learning_rate is not set; set "
        "models.tiny.final_learning_rate to the value in the base's model card",
    ),
    "a warm-up from an unknown rate": (
        {"schedule": {"warmup_from": "base_final"}},
        "train.schedule.warmup_from is base_final, but models.tiny.final_learning_rate is not set; set "
        "models.tiny.final_learning_rate",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_contradiction_names_the_keys_and_what_to_set(tree, name):
    train, message = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        read(tree, **train)
    assert caught.value.problem.startswith(f"study.yaml: {message}")


ACCEPTED = {
    "FLOPs alone": {"budgets": None, "budgets_flops": ["1e18", 2e18]},
    "a cosine chain": {"schedule": {"shape": "cosine"}, "budget_mode": "chain", "chain": CHAIN},
    "a cosine run of its own": {"schedule": {"shape": "cosine"}, "budget_mode": "independent"},
    "one cosine budget": {"budgets": ["10k"], "schedule": {"shape": "cosine"}},
    "one budget that only cools down": {"budgets": ["10k"], "schedule": {"cooldown_share": 1, "warmup": 0}},
    "one stage needs no rule": {"budgets": ["10k"], "budget_mode": "chain"},
    "a chain at its end": {
        "budget_mode": "chain",
        "chain": {**CHAIN, "peak_share": 0.1},
        "schedule": {"final_share": 0.1},
    },
    "a warm-up up to the cooldown": {"schedule": {"warmup": 8000}},
    "a cosine with one token left": {"budgets": [1000], "schedule": {"shape": "cosine", "warmup": 999}},
    "a re-warm-up up to the cooldown": {"budget_mode": "chain", "chain": {**CHAIN, "rewarm": 8000}},
    "a mark where the cooldown begins": {"trajectory_tokens": [100, 16_000]},
    "points above 0": {"budgets": [100], "trajectory_points": 7},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_other_side_of_each_refusal_is_accepted(tree, name):
    read(tree, **ACCEPTED[name])


def test_a_warm_up_that_would_fall_is_refused(tree):
    schedule = {"warmup_from": "base_final"}
    read(tree, {"final_learning_rate": 1e-4}, learning_rate=1e-4, schedule=schedule)
    with pytest.raises(ConfigError) as caught:
        read(tree, {"final_learning_rate": 2e-4}, learning_rate=1e-4, schedule=schedule)
    assert caught.value.problem == (
        "study.yaml: models.tiny.final_learning_rate is 0.0002, above the peak of 0.0001 that train.learning_rate and "
        "train.learning_rate_factor give, so the warm-up would decrease; set train.schedule.warmup_from to zero"
    )


@pytest.mark.parametrize("value", [0, -1e-4, float("nan"), float("inf"), True, "base", None])
def test_a_learning_rate_is_a_number_above_zero_or_a_rate_of_the_base(tree, value):
    with pytest.raises(ConfigError) as caught:
        read(tree, learning_rate=value)
    assert caught.value.problem == (
        f"study.yaml: train.learning_rate: expected a number above 0, base_peak or base_final, saw {value!r}"
    )


def test_cooldown_start_is_the_end_less_the_share_of_what_is_new():
    assert cooldown_start(1000, 0.2) == 800
    assert cooldown_start(1, 0.2) == 1
    assert cooldown_start(2000, 0.2, 1000) == 1800


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.budgets", ["20k", "10k"], "train.budgets must be above 0 and ascend without repeats, saw [20000, 10000]"),
        ("train.budgets", ["10k", "10k"], "train.budgets must be above 0 and ascend without repeats, saw [10000, 10000]"),
        ("train.budgets", [0, "10k"], "train.budgets must be above 0 and ascend without repeats, saw [0, 10000]"),
        ("train.schedule", {"warmup": "9k"}, "train.schedule.warmup is 9000 tokens, but the cooldown of the smallest budget, 10000, begins at 8000; set train.schedule.warmup to at most 8000"),
    ],
)  # fmt: skip
def test_budgets_that_do_not_ascend_or_leave_no_room_are_refused(tree, key, value, message):
    assert f"study.yaml: {message}" in refusal(spoil(tree, key, value))
