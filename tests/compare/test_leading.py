"""What stands first of many: by validation text or as listed, never by a score that is reported."""

from __future__ import annotations

import pytest

from cpt_ray.compare.leading import AS_LISTED, BY_VALIDATION, in_order, to_fit, validation_gains
from cpt_ray.config.sections.evaluate import CompareConfig
from tests.compare.test_verdict import conclude

CONTROLS = frozenset({"control"})
BOTH = ("test", "validation")


def fill(laboratory, *, parts=("test",), arms=5, seeds=(0,)):
    laboratory.add(parts=parts)
    for arm in range(arms):
        for seed in seeds:
            for budget in (100, 200, 400):
                loss = 0.9 - 0.01 * arm - budget / 1e4
                laboratory.add(f"arm{arm}", budget, seed=seed, law=loss, noise=0.01, parts=parts)
    laboratory.add("control", 400, law=0.99, noise=0.01, parts=parts)


def test_gains_are_those_of_the_largest_budget_on_validation_text(laboratory):
    fill(laboratory, parts=BOTH, seeds=(0, 1))
    gains = validation_gains(laboratory.evals)
    assert gains["m", "arm0"] == pytest.approx(0.14, abs=0.01)
    assert gains["m", "arm4"] == pytest.approx(0.18, abs=0.01)


def test_one_model_without_validation_scores_leaves_no_gain(laboratory):
    fill(laboratory, parts=BOTH)
    assert validation_gains(laboratory.evals)
    laboratory.add("late", 400, law=0.5)
    assert validation_gains(laboratory.evals) == {}


def test_the_largest_model_stands_first_then_the_largest_gain_then_the_order_given():
    places = [("small", "a"), ("small", "b"), ("large", "a"), ("large", "b"), ("unknown", "a")]
    sizes = {"small": 1.0, "large": 4.0}
    assert in_order(places, {}, sizes) == [places[2], places[3], places[0], places[1], places[4]]
    gains = {("small", "b"): 0.2, ("small", "a"): 0.1}
    assert in_order(places, gains, sizes)[2:4] == [("small", "b"), ("small", "a")]


@pytest.mark.parametrize(
    ("parts", "first", "order"), [(("test",), ["arm0", "arm1"], AS_LISTED), (BOTH, ["arm4", "arm3"], BY_VALIDATION)]
)
def test_a_study_fits_so_many_arms_and_says_which(laboratory, parts, first, order):
    fill(laboratory, parts=parts)
    chosen, said = to_fit(laboratory.evals, CONTROLS, {}, 2)
    assert chosen == {*(("m", arm) for arm in first), ("m", "control")}
    assert said == f"Curves are fitted for 2 of 5 models and arms (compare.most_fitted): {order}."
    assert to_fit(laboratory.evals, CONTROLS, {}, 5)[1] == ""


def test_only_the_chosen_have_curves_and_all_have_differences(laboratory):
    fill(laboratory)
    few = conclude(laboratory, CompareConfig(subsets=400, most_fitted=2))
    assert {fit.arm for fit in few.answers.fits if fit.kind == "tokens"} == {"arm0", "arm1", "control"}
    assert few.answers.unfitted.startswith("Curves are fitted for 2 of 5 models and arms")
    every = conclude(laboratory, CompareConfig(subsets=400))
    assert few.deltas == every.deltas
    assert every.answers.unfitted == ""
    kept = [fit for fit in every.answers.fits if fit.kind == "tokens" and fit.arm in ("arm0", "arm1", "control")]
    assert [fit for fit in few.answers.fits if fit.kind == "tokens"] == kept
