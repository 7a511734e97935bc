"""Records of fits: intervals, residuals, points left out, warnings, and every refusal in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cpt_ray.compare.fits.curves import fit_compute, fit_tokens
from cpt_ray.compare.fits.fitted import estimated
from tests.compare.fits.made_up import TOKENS, make_ladder


def fitted(**changes):
    return fit_tokens(make_ladder(**changes), confidence=0.95, seed=0)


def refused(**changes):
    found = fitted(**changes)
    assert found.curve is None
    assert found.record.parameters == ()
    return found.record.refused


def test_a_fit_gives_every_parameter_with_its_interval():
    record = fitted().record
    assert (record.points, record.scores, record.seeds, record.degrees_of_freedom) == (8, 24, 3, 2)
    truth = {"E": 0.7, "x0": 8e6, "b": 0.5}
    assert [one.name for one in record.parameters] == list(truth)
    for one in record.parameters:
        assert one.low is None or one.low <= truth[one.name]
        assert one.high is None or one.high >= truth[one.name]
        assert (one.low, one.high) != (None, None)
    assert record.refused == ""


def test_residuals_are_those_of_the_noise():
    assert 0.05 < fitted(noise=1e-3).record.residual_percent < 0.2


def test_each_point_is_predicted_from_the_others():
    record = fitted(noise=1e-5).record
    assert [one.x for one in record.left_out] == list(TOKENS)
    for one in record.left_out:
        assert one.predicted == pytest.approx(one.measured, abs=2e-3)
    wild = make_ladder(noise=1e-5)
    losses = wild.losses.copy()
    losses[np.array(wild.budgets) == int(TOKENS[-1])] += 0.05
    record = fitted(losses=losses).record
    assert record.left_out[-1].measured - record.left_out[-1].predicted == pytest.approx(0.05, abs=5e-3)


def test_few_points_are_warned_of_and_enough_are_not():
    assert any("4 points: a curve through so few" in line for line in fitted(tokens=TOKENS[:4]).record.warnings)
    assert not any("points" in line for line in fitted(tokens=TOKENS[:5]).record.warnings)


def test_three_points_leave_none_to_be_left_out():
    assert fitted(tokens=TOKENS[:3]).record.left_out == ()


def test_one_seed_is_warned_of_and_several_are_not():
    assert any("one seed: the error between runs" in line for line in fitted(seeds=1).record.warnings)
    assert not any("one seed" in line for line in fitted().record.warnings)


def test_a_form_that_misses_what_all_seeds_share_is_said():
    bent = make_ladder()
    losses = bent.losses + 0.01 * np.where(np.array(bent.budgets) == int(TOKENS[4]), 1, 0)
    assert any("the form misses what all seeds agree on" in line for line in fitted(losses=losses).record.warnings)
    assert not any("the form misses" in line for line in fitted().record.warnings)


def test_a_rising_loss_is_fitted_and_said():
    record = fitted(curve=lambda x: 1.3 - 0.3 * (1 + x / 8e6) ** -0.5).record
    assert "the loss rises with tokens: E lies above the base" in record.warnings
    assert record.parameters[0].value > 1


def test_a_parameter_at_the_end_of_what_was_searched_has_no_interval():
    """A step after the first budget: the exponent runs into the wall, where nothing says what lies below."""
    fitted = fit_tokens(make_ladder(lambda x: np.where(x > 1.5e6, 0.7, 0.9), noise=1e-5), confidence=0.95, seed=0)
    stuck = set(range(3)) - set(fitted.curve.solution.free)
    assert stuck
    for place in stuck:
        found = fitted.record.parameters[place]
        assert (found.low, found.high) == (None, None)


def test_a_parameter_without_bounds_is_named():
    record = fitted(curve=lambda x: 1 - 1e-10 * x, tokens=[1e6 * n for n in range(1, 9)], noise=1e-4).record
    assert any(line.startswith("E, ") and line.endswith("not bounded by the scores") for line in record.warnings)


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokens": [1e6, 2e6]}, "2 budgets: a curve needs at least 3, besides the base"),
        ({"tokens": [1e6]}, "1 budget: a curve needs at least 3, besides the base"),
        ({"tokens": [1e6, 1e6, 1e6, 1e6]}, "1 budget: a curve needs at least 3"),
        ({"tokens": TOKENS[:3], "seeds": 1}, "3 scores of one seed and 3 parameters leave nothing to estimate the error from"),
        ({"documents": 9}, "9 documents are too few for an interval: at least 10 are needed"),
        ({"losses": np.full(24, math.nan)}, "a score is not a finite number: delete the evaluation's folder"),
        ({"losses": np.zeros(24)}, "a loss is 0 or below"),
        ({"losses": np.full(24, 0.9)}, "all scores are equal: there is no curve"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(changes, says):
    assert says in refused(**changes)


def test_a_power_law_over_compute_that_was_not_recorded_is_refused():
    found = fit_compute(make_ladder(flops_per_token=0.0), confidence=0.95, seed=0)
    assert found.record.refused == "the records do not say how much compute each run took"


def test_a_positive_parameter_that_may_be_zero_is_open_below():
    assert estimated("x0", 1.0, 0.0, math.inf, positive=True) == estimated("x0", 1.0, -math.inf, math.inf)
    assert estimated("b", 1.0, 0.0, 2.0).low == 0.0
