"""A budget is selected on the validation half and reported on the test half."""

from __future__ import annotations

from tests.compare.test_verdict import conclude

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
