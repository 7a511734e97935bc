"""The optimizers: what they find on scores without noise, with an outlier, and at the ends of the box."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares as scipy_least_squares

from cpt_ray.compare.fits.forms import POWER, TOKENS
from cpt_ray.compare.fits.solve import HOFFMANN_DELTA, least_squares, solve
from tests.compare.fits.made_up import TOKENS as X
from tests.compare.fits.made_up import falling

DESIGN = np.stack([np.array(X), np.ones(len(X))], axis=-1)


def test_a_curve_without_noise_is_found():
    found = solve(TOKENS, DESIGN, falling(np.array(X)), random=np.random.default_rng(1))
    assert np.exp(found.searched) == pytest.approx([0.7, 8e6, 0.5], rel=2e-2)
    assert (found.weights > 0.99).all()


def test_the_same_generator_gives_the_same_estimate():
    losses = falling(np.array(X)) + np.random.default_rng(3).normal(0, 1e-3, len(X))
    first, second = (solve(TOKENS, DESIGN, losses, random=np.random.default_rng(1)).searched for _ in range(2))
    assert (first == second).all()


def test_an_outlier_moves_huber_less_than_least_squares():
    x = np.geomspace(0.01, 1, 12)[:, None]
    losses = 0.8 * x[:, 0] ** -0.1
    losses[-1] *= 1.2
    found = solve(POWER, x, losses, random=np.random.default_rng(0))
    line = np.polyfit(np.log(x[:, 0]), np.log(losses), 1)
    assert found.searched[1] == pytest.approx(0.1, abs=0.01)
    assert abs(-line[0] - 0.1) > 0.01
    assert found.weights[-1] < 0.1 < found.weights[0]


def test_hubers_loss_turns_linear_no_earlier_than_in_hoffmann_et_al():
    losses = falling(np.array(X))
    losses[3] *= 1 + 5 * HOFFMANN_DELTA
    found = solve(TOKENS, DESIGN, losses, random=np.random.default_rng(0))
    assert found.weights.min() < 1


def test_many_problems_at_once_end_where_scipy_ends():
    random = np.random.default_rng(5)
    targets = np.log(falling(np.array(X))) + random.normal(0, 2e-3, (4, len(X)))
    low, high = TOKENS.box(DESIGN, falling(np.array(X)))
    start = np.log([0.8, 4e6, 0.4])

    found, costs = least_squares(lambda s: TOKENS.log_loss(s, DESIGN[None]) - targets, np.tile(start, (4, 1)), (low, high))

    for target, cost in zip(targets, costs, strict=True):
        reference = scipy_least_squares(
            lambda s, t=target: TOKENS.log_loss(s, DESIGN) - t, start, bounds=(low, high), x_scale="jac", ftol=1e-12
        )
        assert cost <= 2 * reference.cost * (1 + 1e-4)
    assert ((found >= low) & (found <= high)).all()


def test_a_problem_drawn_out_of_the_box_ends_at_its_wall():
    found, _ = least_squares(lambda s: s - np.array([5.0, 0.5]), np.zeros((1, 2)), (np.zeros(2), np.ones(2)))
    assert found[0] == pytest.approx([1.0, 0.5])


def test_parameters_at_the_ends_of_the_box_are_not_free():
    flat = np.full(len(X), 1.0)
    flat[-1] = 0.9999
    found = solve(TOKENS, DESIGN, flat, random=np.random.default_rng(0))
    assert len(found.free) < 3
