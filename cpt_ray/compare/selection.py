"""Which budget the scores select: chosen on the validation half of the held-out domain text, reported on the test half.

In: the cells of a study. Out: a `Selected` for each model and domain arm. Guarantee: nothing that is reported of the selected
budget has taken part in selecting it, so its test score is not better by the luck of the choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from cpt_ray.compare.deltas import Cell
from cpt_ray.config.values import format_count
from cpt_ray.records import HeldOutScore, Selected


def select(cells: Sequence[Cell], *, controls: Collection[str], probes: Mapping[str, Collection[str]]) -> tuple[Selected, ...]:
    """Select a budget of each model and domain arm by its bits per byte, the mean over seeds and sets.

    Args:
        cells: Bases and budgets.
        controls: The control arms, of which nothing is selected.
        probes: Arm to the sets that are no domain text for it.

    Returns:
        None of an arm with one budget, or with a budget that was not scored on both halves of the same sets.
    """
    found = []
    for model, arm in dict.fromkeys((cell.model, cell.arm) for cell in cells if cell.arm is not None):
        budgets = [cell for cell in cells if (cell.model, cell.arm) == (model, arm)]
        if arm is None or arm in controls or len(budgets) < 2:
            continue
        left_out = probes.get(arm, ())
        validation, test = ([_scores(cell, part, left_out) for cell in budgets] for part in ("validation", "test"))
        sets = set(validation[0])
        if not sets or any(set(scores) != sets for scores in (*validation, *test)):
            continue
        best = min(range(len(budgets)), key=lambda place: (fmean(validation[place].values()), budgets[place].budget_tokens))
        found.append(
            Selected(
                model=model,
                arm=arm,
                budget_tokens=budgets[best].budget_tokens or 0,
                candidates=tuple(sorted(cell.budget_tokens or 0 for cell in budgets)),
                sets=tuple(sorted(sets)),
                validation_bits_per_byte=fmean(validation[best].values()),
                test_bits_per_byte=fmean(test[best].values()),
            )
        )
    return tuple(found)


def say_selected(one: Selected) -> str:
    """What was selected, and by what."""
    return (
        f"Of the {len(one.candidates)} budgets of {one.arm} on {one.model}, the validation half of {' and '.join(one.sets)} "
        f"selects {format_count(one.budget_tokens)} tokens ({one.validation_bits_per_byte:.4f} bits per byte there); it has "
        f"{one.test_bits_per_byte:.4f} on the test half, on which all else is reported."
    )


def _scores(cell: Cell, part: str, left_out: Collection[str]) -> dict[str, float]:
    """By domain set that all seeds were scored on, the mean over seeds."""
    of_seeds = [
        {score.source: score for score in scored.record.held_out if _counts(score, part, left_out)} for scored in cell.scored
    ]
    names = [name for name in of_seeds[0] if all(name in scores for scores in of_seeds)]
    return {name: fmean(scores[name].bits_per_byte for scores in of_seeds) for name in names}


def _counts(score: HeldOutScore, part: str, left_out: Collection[str]) -> bool:
    return score.part == part and score.role == "domain" and score.source not in left_out
