"""The learning rate: hand-computed tables for every shape, and properties that hold for all of them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from cpt_ray.records import RateSchedule
from cpt_ray.train.runs.schedule import learning_rate
from cpt_ray.train.runs.specs import plan_runs
from tests.run_specs import make_schedule
from tests.train.tiny_run import tiny_config


def table(schedule: RateSchedule, rows: dict[float, float]) -> None:
    for tokens, expected in rows.items():
        assert learning_rate(tokens, schedule) == pytest.approx(expected, abs=1e-12), tokens


def test_warm_up_constant_and_one_minus_sqrt_cooldown():
    # Quarters of the cooldown: 1 - sqrt(1/4), 1 - sqrt(1/2), 1 - sqrt(3/4); at 872 done is 0.36.
    table(
        make_schedule(1000, start=800, warmup_tokens=100),
        {
            0: 0.0,
            50: 0.5,
            100: 1.0,
            799: 1.0,
            800: 1.0,
            850: 0.5,
            872: 0.4,
            900: 1 - math.sqrt(0.5),
            950: 1 - math.sqrt(0.75),
            1000: 0.0,
            1100: 0.0,
        },
    )


def test_a_linear_cooldown_ends_at_the_final_rate():
    table(
        make_schedule(1000, start=800, peak=2.0, decay_shape="linear", final_rate=0.2),
        {0: 2.0, 800: 2.0, 850: 1.55, 900: 1.1, 950: 0.65, 1000: 0.2, 1001: 0.2},
    )


def test_a_cosine_cooldown_is_half_way_in_the_middle():
    # (1 + cos 60 deg) / 2 = 0.75, (1 + cos 90 deg) / 2 = 0.5, (1 + cos 120 deg) / 2 = 0.25.
    table(
        make_schedule(1000, start=700, decay_shape="cosine", final_rate=0.2),
        {700: 1.0, 800: 0.2 + 0.8 * 0.75, 850: 0.6, 900: 0.2 + 0.8 * 0.25, 1000: 0.2},
    )


def test_a_whole_cosine_with_a_floor_falls_from_the_end_of_the_warm_up():
    # Ibrahim et al.: warm up over 1 % to the peak, down to a tenth of it.
    table(
        make_schedule(10_000, start=100, peak=3e-4, warmup_tokens=100, decay_shape="cosine", final_rate=3e-5),
        {0: 0.0, 50: 1.5e-4, 100: 3e-4, 3400: 3e-5 + 2.7e-4 * 0.75, 5050: 1.65e-4, 6700: 3e-5 + 2.7e-4 * 0.25, 10_000: 3e-5},
    )


def test_a_warm_up_from_the_base_s_final_rate_starts_there():
    table(make_schedule(warmup_tokens=100, start_rate=0.1), {0: 0.1, 50: 0.55, 100: 1.0, 10**9: 1.0})


def test_a_later_stage_of_a_chain_warms_up_from_its_own_start():
    table(
        make_schedule(
            2000, start=1800, peak=0.5, warmup_start_tokens=1000, warmup_tokens=200, start_rate=0.1, decay_shape="linear"
        ),
        {1000: 0.1, 1100: 0.3, 1200: 0.5, 1800: 0.5, 1900: 0.25, 2000: 0.0},
    )


def test_without_a_warm_up_the_first_token_is_at_the_peak():
    table(make_schedule(peak=3e-4), {0: 3e-4, 1: 3e-4})


def test_a_trunk_never_cools_down():
    assert learning_rate(10**9, make_schedule(peak=3e-4)) == 3e-4


VARIANTS: list[dict[str, object]] = [
    {"budget_mode": mode, "schedule": {"warmup": warmup, "final_share": final, "cooldown_share": 0.25, **shape}}
    for mode in ("branch", "chain", "independent")
    for warmup in (0, 100)
    for final in (0.0, 0.1)
    for shape in (
        {"cooldown_shape": "1-sqrt"},
        {"cooldown_shape": "linear"},
        {"cooldown_shape": "cosine"},
        {"shape": "cosine"},
    )
    if not (mode == "branch" and "shape" in shape)
]
CHAIN = {"rewarm": 50, "rewarm_from": "previous_final", "peak_share": 0.5, "optimizer": "kept"}


@pytest.mark.parametrize("train", VARIANTS, ids=str)
def test_every_run_s_rate_is_continuous_falls_only_in_its_cooldown_and_ends_at_the_final_share(tmp_path: Path, train):
    config = tiny_config(tmp_path, budgets=[1000, 2000, 4000], chain=CHAIN, **train)
    for spec in plan_runs(config):
        schedule = spec.schedule
        rates = [learning_rate(t, schedule) for t in range(spec.start_tokens, spec.stop_tokens + 1)]
        warm = schedule.warmup_start_tokens + schedule.warmup_tokens - spec.start_tokens
        fall = (spec.stop_tokens if schedule.decay_start_tokens is None else schedule.decay_start_tokens) - spec.start_tokens
        assert all(a <= b for a, b in pairwise(rates[: max(warm, 0) + 1]))
        assert all(rate == schedule.peak_rate for rate in rates[max(warm, 0) : fall + 1])
        assert all(a >= b for a, b in pairwise(rates[fall:]))
        # 1-sqrt is steepest at its first token: a jump of sqrt(1 / cooldown). A warm-up of no tokens is a jump by choice.
        if warm or schedule.start_rate:
            steepest = max(1 / math.sqrt(max(1, len(rates) - 1 - fall)), 1 / max(1, schedule.warmup_tokens))
            assert max(abs(a - b) for a, b in pairwise(rates)) <= 1.001 * steepest * schedule.peak_rate
        if spec.budget_tokens is not None:
            assert rates[-1] == pytest.approx(config.train.schedule.final_share * schedule.peak_rate)


def test_a_branch_goes_on_at_its_trunk_s_rate(tmp_path: Path):
    trunk, *branches = [spec for spec in plan_runs(tiny_config(tmp_path)) if spec.arm == "legal"]
    assert len(branches) == 2
    for branch in branches:
        for tokens in range(branch.start_tokens + 1):
            assert learning_rate(tokens, branch.schedule) == learning_rate(tokens, trunk.schedule)
        after = branch.start_tokens + 50
        assert learning_rate(after, branch.schedule) < learning_rate(after, trunk.schedule)


def test_a_chain_that_re_warms_from_the_previous_final_rate_has_no_jump_between_stages(tmp_path: Path):
    config = tiny_config(
        tmp_path, budgets=[1000, 2000], budget_mode="chain", chain=CHAIN, schedule={"warmup": 0, "final_share": 0.1}
    )
    first, second = [spec for spec in plan_runs(config) if spec.arm == "legal"]
    assert learning_rate(1000, first.schedule) == learning_rate(1000, second.schedule) == pytest.approx(1e-4)
    assert learning_rate(1050, second.schedule) == pytest.approx(5e-4)
    from_zero = tiny_config(
        tmp_path,
        budgets=[1000, 2000],
        budget_mode="chain",
        chain={**CHAIN, "rewarm_from": "zero"},
        schedule={"final_share": 0.1},
    )
    assert learning_rate(1000, plan_runs(from_zero)[1].schedule) == 0.0
