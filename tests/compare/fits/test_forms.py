"""The forms, against hand-worked losses."""

from __future__ import annotations

import numpy as np
import pytest

from cpt_ray.compare.fits.forms import MIX, POWER, TOKENS


def test_the_curve_in_tokens_is_the_base_at_zero_and_its_floor_at_infinity():
    searched = np.log([0.6, 100.0, 0.5])
    design = np.array([[0.0, 0.9], [300.0, 0.9], [1e30, 0.9]])

    found = np.exp(TOKENS.log_loss(searched, design))

    assert found[0] == pytest.approx(0.9)
    assert found[1] == pytest.approx(0.6 + 0.3 * 4**-0.5)
    assert found[2] == pytest.approx(0.6, abs=1e-6)


def test_a_floor_above_the_base_is_a_loss_that_rises():
    losses = TOKENS.log_loss(np.log([1.2, 10.0, 1.0]), np.array([[1.0, 1.0], [10.0, 1.0], [100.0, 1.0]]))
    assert (np.diff(losses) > 0).all()


def test_a_power_law_is_a_line_in_logarithms():
    assert np.exp(POWER.log_loss(np.array([np.log(2.0), 0.5]), np.array([[1.0], [0.25]]))) == pytest.approx([2.0, 4.0])


def test_the_form_in_the_mix_is_the_d_cpt_law():
    floor, b, eta, beta, c, gamma, epsilon = 0.5, 0.2, 0.3, 0.4, 0.1, 0.6, 0.05
    searched = np.log([floor, b, eta, beta, c, gamma, epsilon])
    tokens, share = 0.25, 0.8
    expected = floor + b * share**eta / tokens**beta + c / (share + epsilon) ** gamma
    assert np.exp(MIX.log_loss(searched, np.array([[tokens, share]]))) == pytest.approx([expected])


def test_without_a_share_the_form_in_the_mix_is_finite():
    searched = np.log([0.5, 0.2, 0.3, 0.4, 0.1, 0.6, 0.05])
    assert np.exp(MIX.log_loss(searched, np.array([[1.0, 0.0]]))) == pytest.approx([0.5 + 0.1 / 0.05**0.6], rel=1e-3)


@pytest.mark.parametrize("form", [TOKENS, POWER, MIX])
def test_many_parameters_are_evaluated_at_once_as_one_by_one(form):
    design = np.array([[0.5, 0.9, 1.0], [1.0, 0.4, 1.0]])
    low, high = form.box(design, np.array([0.8, 0.7]))
    many = low + (high - low) * np.random.default_rng(0).random((5, len(low)))
    together = form.log_loss(many, design[None])
    assert together == pytest.approx(np.stack([form.log_loss(one, design) for one in many]))
    assert np.isfinite(together).all()
    assert len(form.parameters) == len(form.logged) == len(low)
