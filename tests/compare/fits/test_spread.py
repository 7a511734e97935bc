"""Intervals of fitted curves: against closed forms, open where scores do not bound, paired, refused without freedom."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from cpt_ray.compare.fits.curves import change_at, fit_compute, fit_tokens, loss_at
from cpt_ray.compare.fits.forms import POWER
from cpt_ray.compare.fits.solve import solve
from cpt_ray.compare.fits.spread import Scores, Spread, fit_curve, linear_spread, spread_of
from tests.compare.fits.made_up import make_ladder


def exponent(searched, _):
    return searched[..., 1]


def line(seeds, noise=2e-4, documents=0.0):
    """A power law's scores: the interval of its exponent has a closed form, because it is a line in logarithms."""
    random = np.random.default_rng(2)
    x = np.tile(np.geomspace(0.01, 1, 8), seeds)
    losses = 0.8 * x**-0.1 * np.exp(random.normal(0, noise, len(x)))
    design = x[:, None]
    moved = np.exp(documents * random.normal(0, 1, (200, 1)) * np.log(x))
    scores = Scores(design, losses, tuple(np.repeat(range(seeds), 8)), np.tile(design, (200, 1, 1)), losses * moved)
    return fit_curve(POWER, scores, solve(POWER, design, losses, random=np.random.default_rng(0)))


def test_with_one_seed_the_exponents_interval_is_that_of_a_line():
    curve = line(1)
    x, y = np.log(curve.scores.design[:, 0]), np.log(curve.scores.losses)
    slope, intercept = np.polyfit(x, y, 1)
    error = math.sqrt(((y - slope * x - intercept) ** 2).sum() / 6 / ((x - x.mean()) ** 2).sum())
    low, high = spread_of(curve, exponent, 0.95).bounds()
    half = stdtrit(6, 0.975) * error
    assert (low, high) == (pytest.approx(-slope - half, rel=1e-3), pytest.approx(-slope + half, rel=1e-3))


def test_with_several_seeds_the_exponents_interval_is_t_over_the_slopes_of_each():
    curve = line(3)
    x, y = np.log(curve.scores.design[:, 0]).reshape(3, 8), np.log(curve.scores.losses).reshape(3, 8)
    slopes = np.array([-np.polyfit(own, losses, 1)[0] for own, losses in zip(x, y, strict=True)])
    low, high = spread_of(curve, exponent, 0.95).bounds()
    half = stdtrit(2, 0.975) * slopes.std(ddof=1) / math.sqrt(3)
    assert (low, high) == (pytest.approx(slopes.mean() - half, rel=1e-3), pytest.approx(slopes.mean() + half, rel=1e-3))


@pytest.mark.parametrize("describes", [True, False])
def test_documents_widen_the_interval_and_add_degrees_of_freedom_only_to_what_describes(describes):
    alone, joined = (spread_of(line(3, documents=one), exponent, 0.95, describes=describes) for one in (0.0, 1e-3))
    width = [one.bounds()[1] - one.bounds()[0] for one in (alone, joined)]
    assert width[1] > 3e-3 > width[0]
    # Over training alone the interval of what describes narrows: the quantile is that of more degrees of freedom.
    assert (joined.high - joined.low < alone.high - alone.low) is describes


def test_a_prediction_has_its_interval_around_the_truth():
    fitted = fit_tokens(make_ladder(), confidence=0.95, seed=0)
    spread = spread_of(fitted.curve, loss_at(2 * 128e6), 0.95)
    low, high = spread.bounds()
    assert low < 0.7 + 0.3 * (1 + 256 / 8) ** -0.5 < high
    change = spread_of(fitted.curve, change_at(2 * 128e6), 0.95)
    assert change.value == pytest.approx(spread.value - 1)


def test_what_the_scores_do_not_bound_is_open():
    """A straight beginning of a curve says nothing of where it ends."""
    ladder = make_ladder(lambda x: 1 - 1e-10 * x, tokens=[1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 7e6, 8e6], noise=1e-4)
    floor = fit_tokens(ladder, confidence=0.95, seed=0).record.parameters[0]
    assert (floor.name, floor.low) == ("E", None)


def test_equal_seeds_leave_only_the_error_of_documents():
    curve = fit_compute(make_ladder(noise=0.0), confidence=0.95, seed=0).curve
    spread = spread_of(curve, exponent, 0.95)
    assert spread.high - spread.low < 1e-3 * abs(spread.value)
    assert spread.bounds()[1] > spread.high + 1e-4


def test_what_the_scores_do_not_move_has_no_interval_of_width_zero():
    """A gradient of 0 is no certainty: neither in an interval nor in one to first order."""
    curve = line(3)

    def clipped(searched, _):
        return np.minimum(searched[..., 1], 0.01)

    for spread in (spread_of(curve, clipped, 0.95), linear_spread(curve, clipped, 0.95)):
        assert (spread.value, spread.low, spread.high) == (0.01, -math.inf, math.inf)
        assert spread.bounds() == (-math.inf, math.inf)


def test_a_difference_is_paired_by_documents():
    documents = np.linspace(-1, 1, 99)
    one, other = Spread(2.0, 1.9, 2.1, 2.0 + documents, 0.95), Spread(1.0, 0.9, 1.1, 1.0 + documents, 0.95)
    found = one.minus(other)
    assert found.value == pytest.approx(1)
    assert found.bounds() == (pytest.approx(1 - math.hypot(0.1, 0.1)), pytest.approx(1 + math.hypot(0.1, 0.1)))
    assert one.bounds()[1] > 2.9


def test_without_degrees_of_freedom_there_is_no_interval():
    design = np.array([[0.5], [1.0]])
    losses = np.array([1.0, 0.9])
    scores = Scores(design, losses, (0, 0), np.tile(design, (4, 1, 1)), np.tile(losses, (4, 1)))
    curve = fit_curve(POWER, scores, solve(POWER, design, losses, random=np.random.default_rng(0)))
    with pytest.raises(ValueError, match="nothing is left to estimate the error from"):
        spread_of(curve, exponent, 0.95)
