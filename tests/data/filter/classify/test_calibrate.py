"""Calibration: probabilities that hold, finite where classes are separated, in the order of the margins."""

import sys

import numpy as np
import pytest

from cpt_ray.data.filter.classify.calibrate import Calibration, calibrate, calibration_error
from cpt_ray.errors import ConfigError


def drawn(count, seed, slope=0.7, offset=-1.0):
    random = np.random.default_rng(seed)
    margins = random.normal(0, 4, count)
    return margins, random.random(count) < 1 / (1 + np.exp(-(slope * margins + offset)))


def test_the_sigmoid_that_made_the_classes_is_found():
    found = calibrate(*drawn(20_000, 1))
    assert found.slope == pytest.approx(0.7, rel=0.05)
    assert found.offset == pytest.approx(-1.0, abs=0.1)
    margins, positive = drawn(20_000, 2)
    assert calibration_error(found.probabilities(margins), positive) < 0.02
    assert calibration_error(Calibration(7.0, 3.0).probabilities(margins), positive) > 0.1


def test_separated_classes_give_probabilities_below_one_as_platt_chose():
    found = calibrate(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    probabilities = found.probabilities(np.array([-2.0, 2.0]))
    assert 0 < probabilities[0] < 0.4 < 0.6 < probabilities[1] < 1


def test_without_scikit_learn_the_setting_and_the_command_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match="classifiers needs the Python package scikit-learn, which is not") as error:
        calibrate(np.array([-1.0, 1.0]), np.array([False, True]))
    assert error.value.fix.startswith("pip install 'scikit-learn")


def test_margins_on_any_scale_give_the_same_probabilities():
    margins, positive = drawn(500, 3)
    small, large = calibrate(margins, positive), calibrate(1e6 * margins, positive)
    np.testing.assert_allclose(small.probabilities(margins), large.probabilities(1e6 * margins), atol=1e-3)


def test_probabilities_grow_with_the_margin_even_where_the_classes_are_the_wrong_way_round():
    found = calibrate(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([True, True, False, False]))
    values = found.probabilities(np.linspace(-1e9, 1e9, 50))
    assert np.all(np.diff(values) >= 0)
    assert np.all(np.isfinite(values))
