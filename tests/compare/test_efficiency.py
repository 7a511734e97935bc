"""The efficiency ratio: hand-worked, censored, by fitted curves, over sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cpt_ray.compare.efficiency import ARMS_BEST, CONTROLS_BEST, ratios, reach, trends
from cpt_ray.compare.fits.curves import fit_tokens
from tests.compare.fits.made_up import TOKENS, falling, make_ladder

CONTROLS = frozenset({"control"})


def slower(factor):
    """A curve that needs `factor` times the tokens of `falling`."""
    return lambda x: falling(x / factor)


def found_ratios(ladders):
    curves = {(one.model, one.arm, one.set_name): fit_tokens(one, confidence=0.95, seed=0) for one in ladders}
    return ratios(ladders, curves, CONTROLS, 0.95)


def pair(factor=4.0, **changes):
    return [make_ladder(**changes), make_ladder(slower(factor), arm="control", random_seed=9, **changes)]


def test_a_measured_curve_reaches_a_loss_between_its_points_in_log_flops():
    flops, losses = np.array([100.0, 400.0]), np.array([0.9, 0.8])
    assert reach(flops, losses, 1.0, 0.9) == pytest.approx(100)
    assert reach(flops, losses, 1.0, 0.85) == pytest.approx(200)
    assert reach(flops, losses, 1.0, 0.95) == pytest.approx(50)
    assert reach(flops, losses, 1.0, 0.79) == math.inf


def test_a_measured_curve_is_the_best_so_far():
    flops, losses = np.array([100.0, 200.0, 400.0]), np.array([0.9, 0.95, 0.8])
    assert reach(flops, losses, 1.0, 0.9) == 100
    assert reach(flops, losses, 1.0, 0.85) == pytest.approx(200 * 2**0.5)


def test_a_control_four_times_as_slow_has_a_ratio_of_four_by_points_and_by_curves():
    for one in found_ratios(pair()):
        if one.target == CONTROLS_BEST:
            assert one.ratio.low < 4 < one.ratio.high
            assert one.ratio.value == pytest.approx(4, rel=0.15)
            assert one.bound == ""


def test_a_control_that_never_gets_there_gives_a_bound_by_points_and_a_number_by_curves():
    measured, fitted = (one for one in found_ratios(pair()) if one.target == ARMS_BEST)
    assert (measured.basis, measured.bound, measured.ratio) == ("measured", ">", None)
    assert measured.bound_value == pytest.approx(1, abs=1e-6)
    assert fitted.basis == "fitted"
    assert fitted.ratio.value == pytest.approx(4, rel=0.3)


def test_a_lowest_loss_at_the_last_budget_is_censored_and_one_before_it_is_not():
    falling_still = found_ratios(pair())
    assert all(one.censored for one in falling_still)
    # The control is lowest at its third budget of eight, and rises from there on.
    risen = make_ladder(lambda x: falling(x) + 0.05 * np.maximum(np.log(x / TOKENS[2]), 0), arm="control", noise=0.0)
    found = {one.target: one.censored for one in found_ratios([make_ladder(), risen]) if one.basis == "measured"}
    assert found == {CONTROLS_BEST: False, ARMS_BEST: True}
    worse = found_ratios([make_ladder(), make_ladder(lambda x: 1.1 + 0 * x, arm="control")])[0]
    assert (worse.missing, worse.censored) == ("the control never fell below the base", False)


def test_a_curve_whose_floor_is_above_the_loss_never_reaches_it():
    ladders = [make_ladder(), make_ladder(lambda x: falling(x, floor=0.95), arm="control")]
    fitted = next(one for one in found_ratios(ladders) if (one.target, one.basis) == (ARMS_BEST, "fitted"))
    assert fitted.ratio is None
    assert fitted.missing == "by its curve, the control never reaches the loss"


def test_an_arm_behind_its_control_has_an_upper_bound():
    ladders = [make_ladder(slower(4.0)), make_ladder(arm="control")]
    measured = next(one for one in found_ratios(ladders) if (one.target, one.basis) == (CONTROLS_BEST, "measured"))
    assert measured.bound == "<"
    assert measured.bound_value == pytest.approx(1, abs=1e-6)


def test_a_control_that_never_improves_has_no_ratio():
    ladders = [make_ladder(), make_ladder(lambda x: 1.1 + 0 * x, arm="control")]
    measured = found_ratios(ladders)[0]
    assert (measured.ratio, measured.missing) == (None, "the control never fell below the base")


def test_a_model_with_dearer_tokens_counts_flops():
    control = make_ladder(slower(2.0), arm="control", flops_per_token=3e9, random_seed=4)
    found = [one for one in found_ratios([make_ladder(), control]) if one.target == CONTROLS_BEST]
    assert len(found) == 2
    assert all(one.ratio.value == pytest.approx(6, rel=0.25) for one in found)


def test_one_budget_and_one_seed_are_enough_for_a_measured_ratio():
    ladders = [make_ladder(tokens=TOKENS[:2], seeds=1), make_ladder(slower(2.0), arm="control", tokens=TOKENS[1:2], seeds=1)]
    found = found_ratios(ladders)
    assert [one.basis for one in found] == ["measured", "measured"]
    assert found[0].ratio.value == pytest.approx(2, rel=0.1)


def test_only_domain_sets_are_compared():
    assert found_ratios(pair(role="general")) == []


def test_a_ratio_that_grows_with_size_has_a_positive_exponent():
    ladders = []
    for number, size in enumerate((100, 400, 1600, 6400)):
        own = {"model": f"m{size}", "parameters": size, "noise": 3e-4}
        ladders += [
            make_ladder(random_seed=number, **own),
            make_ladder(slower(1.5 * (size / 100) ** 0.25), arm="control", random_seed=50 + number, **own),
        ]
    (trend,) = trends(ladders, CONTROLS, confidence=0.95, seed=0)
    assert trend.sizes == 4
    assert 0 < trend.exponent.low < 0.25 < trend.exponent.high


def test_two_sizes_are_no_trend_and_one_is_none_at_all():
    two = [*pair(model="m1", parameters=1), *pair(model="m2", parameters=2)]
    (trend,) = trends(two, CONTROLS, confidence=0.95, seed=0)
    assert (trend.exponent, trend.missing) == (None, "2 model sizes: a curve needs at least 3")
    assert trends(pair(), CONTROLS, confidence=0.95, seed=0) == []


def test_a_size_whose_ratio_is_a_bound_leaves_no_trend():
    ladders = [*pair(model="m1", parameters=1), *pair(model="m2", parameters=2), *pair(0.25, model="m3", parameters=3)]
    (trend,) = trends(ladders, CONTROLS, confidence=0.95, seed=0)
    assert trend.missing == "at one size the ratio is only a bound, or not measurable"


def test_a_size_that_is_not_known_leaves_no_trend():
    ladders = [*pair(model="m1", parameters=1), *pair(model="m2", parameters=None)]
    (trend,) = trends(ladders, CONTROLS, confidence=0.95, seed=0)
    assert trend.missing == "the size of a model is not known"
