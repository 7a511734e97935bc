"""A budget is selected on the validation half, and many arms are ordered by it: never by a score that is reported."""

from __future__ import annotations

import pytest

from cpt_ray.compare.selection import AS_LISTED, BY_VALIDATION, in_order, to_fit, validation_gains
from cpt_ray.config.sections.evaluate import CompareConfig
from tests.compare.test_verdict import conclude

CONTROLS = frozenset({"control"})
BOTH = ("test", "validation")


def fill(laboratory, **changes):
    laboratory.add(parts=BOTH)
    for budget, law in ((1000, 0.95), (2000, 0.90), (4000, 0.93)):
        laboratory.add("legal", budget, law=law, parts=BOTH, **changes)
    laboratory.add("control", 4000, law=0.5, parts=BOTH)


def make_better_on(laboratory, budget: int, part: str) -> None:
    """Give a budget half the bits per byte on a part of the domain text, and none of the others."""
    place = next(number for number, one in enumerate(laboratory.evals) if one.budget_tokens == budget and one.arm == "legal")
    record = laboratory.evals[place]
    held_out = tuple(
        score.model_copy(update={"bits_per_byte": score.bits_per_byte / 2})
        if (score.source, score.part) == ("law", part)
        else score
        for score in record.held_out
    )
    laboratory.evals[place] = record.model_copy(update={"held_out": held_out})


def test_the_budget_that_is_best_on_validation_is_selected_and_said_with_its_test_score(laboratory):
    fill(laboratory)
    make_better_on(laboratory, 1000, "validation")

    found = conclude(laboratory)

    [chosen] = found.selected  # none of the control
    assert (chosen.model, chosen.arm, chosen.budget_tokens) == ("m", "legal", 1000)
    assert (chosen.candidates, chosen.sets) == ((1000, 2000, 4000), ("law",))
    scores = {one.part: one.bits_per_byte for one in laboratory.evals[1].held_out if one.source == "law"}
    assert (chosen.validation_bits_per_byte, chosen.test_bits_per_byte) == (scores["validation"], scores["test"])
    assert scores["validation"] < 0.5 < scores["test"]
    [said] = [note for note in found.notes if "validation half" in note]
    assert said == (
        f"Of the 3 budgets of legal on m, the validation half of law selects 1k tokens ({scores['validation']:.4f} bits per "
        f"byte there); it has {scores['test']:.4f} on the test half, on which all else is reported."
    )


def test_the_test_half_selects_nothing(laboratory):
    fill(laboratory)
    before = conclude(laboratory).selected[0]
    make_better_on(laboratory, 4000, "test")
    assert conclude(laboratory).selected[0] == before
    assert before.budget_tokens == 2000


def test_the_mean_over_seeds_decides(laboratory):
    laboratory.add(parts=BOTH)
    for seed, laws in ((0, (0.80, 0.90)), (1, (1.00, 0.85))):
        for budget, law in zip((1000, 2000), laws, strict=True):
            laboratory.add("legal", budget, seed=seed, law=law, parts=BOTH)
    assert conclude(laboratory).selected[0].budget_tokens == 2000


def test_one_budget_or_a_missing_half_selects_nothing(laboratory):
    laboratory.add(parts=BOTH)
    laboratory.add("legal", 1000, parts=BOTH)
    assert conclude(laboratory).selected == ()
    laboratory.add("legal", 2000)
    found = conclude(laboratory)
    assert found.selected == ()
    assert not [note for note in found.notes if "validation half" in note]


def fill_arms(laboratory, *, parts=("test",), arms=5, seeds=(0,)):
    laboratory.add(parts=parts)
    for arm in range(arms):
        for seed in seeds:
            for budget in (100, 200, 400):
                loss = 0.9 - 0.01 * arm - budget / 1e4
                laboratory.add(f"arm{arm}", budget, seed=seed, law=loss, noise=0.01, parts=parts)
    laboratory.add("control", 400, law=0.99, noise=0.01, parts=parts)


def test_gains_are_those_of_the_largest_budget_on_validation_text(laboratory):
    fill_arms(laboratory, parts=BOTH, seeds=(0, 1))
    gains = validation_gains(laboratory.evals)
    assert gains["m", "arm0"] == pytest.approx(0.14, abs=0.01)
    assert gains["m", "arm4"] == pytest.approx(0.18, abs=0.01)


def test_one_model_without_validation_scores_leaves_no_gain(laboratory):
    fill_arms(laboratory, parts=BOTH)
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
    fill_arms(laboratory, parts=parts)
    chosen, said = to_fit(laboratory.evals, CONTROLS, {}, 2)
    assert chosen == {*(("m", arm) for arm in first), ("m", "control")}
    assert said == f"Curves are fitted for 2 of 5 models and arms (compare.most_fitted): {order}."
    assert to_fit(laboratory.evals, CONTROLS, {}, 5)[1] == ""


def test_only_the_chosen_have_curves_and_all_have_differences(laboratory):
    fill_arms(laboratory)
    few = conclude(laboratory, CompareConfig(subsets=400, most_fitted=2))
    assert {fit.arm for fit in few.answers.fits if fit.kind == "tokens"} == {"arm0", "arm1", "control"}
    assert few.answers.unfitted.startswith("Curves are fitted for 2 of 5 models and arms")
    every = conclude(laboratory, CompareConfig(subsets=400))
    assert few.deltas == every.deltas
    assert every.answers.unfitted == ""
    kept = [fit for fit in every.answers.fits if fit.kind == "tokens" and fit.arm in ("arm0", "arm1", "control")]
    assert [fit for fit in few.answers.fits if fit.kind == "tokens"] == kept
