"""What is chosen by validation text: the budget that the scores select, and the arms that stand first where there are too many.

In: cells or `EvalRecord`s of a study. Out: a `Selected` for each model and domain arm; models and arms in order. Guarantee: no
score that is reported decides, since the best of several on the test half is partly luck.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from cpt_ray.compare.deltas import Cell
from cpt_ray.config.values import format_count
from cpt_ray.records import EvalRecord, HeldOutScore, Selected

Place = tuple[str, str]
"""A model and an arm."""
BY_VALIDATION = "the largest model first, its arms by their domain gain on validation text, which no score here is of"
AS_LISTED = "the largest model first, its arms as the study lists them, whatever they scored"


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
    for (model, arm), budgets in by_arm(cells).items():
        if arm in controls or len(budgets) < 2:
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


def by_arm(cells: Sequence[Cell]) -> dict[Place, list[Cell]]:
    """The budgets of each model and arm, in the order of `cells`; bases are left out."""
    found: dict[Place, list[Cell]] = {}
    for cell in cells:
        if cell.arm is not None:
            found.setdefault((cell.model, cell.arm), []).append(cell)
    return found


def say_selected(one: Selected) -> str:
    """What was selected, and by what."""
    return (
        f"Of the {len(one.candidates)} budgets of {one.arm} on {one.model}, the validation half of {' and '.join(one.sets)} "
        f"selects {format_count(one.budget_tokens)} tokens ({one.validation_bits_per_byte:.4f} bits per byte there); it has "
        f"{one.test_bits_per_byte:.4f} on the test half, on which all else is reported."
    )


def validation_gains(evals: Sequence[EvalRecord]) -> dict[Place, float]:
    """Gain of each model and arm at its largest budget, as the mean over domain sets and seeds; empty if one is not known."""
    largest: dict[Place, int] = {}
    for record in evals:
        if record.arm is not None and record.budget_tokens is not None:
            place = record.model, record.arm
            largest[place] = max(largest.get(place, 0), record.budget_tokens)
    bases = {record.model: _validation(record) for record in evals if record.arm is None}
    found: dict[Place, list[float]] = {place: [] for place in largest}
    for record in evals:
        place = record.model, record.arm or ""
        if record.budget_tokens is None or record.budget_tokens != largest.get(place):
            continue
        own, base = _validation(record), bases.get(record.model, {})
        if not own or set(own) - set(base):
            return {}
        found[place] += [base[name] - own[name] for name in own]
    return {place: sum(gains) / len(gains) for place, gains in found.items()}


def in_order(places: Sequence[Place], gains: Mapping[Place, float], sizes: Mapping[str, float]) -> list[Place]:
    """Models and arms by size, the largest model first; among those of one size by gain, or as given where none is known.

    Args:
        places: In the study's order.
        gains: Of `validation_gains`.
        sizes: Of models, in any unit; those that are not known come last.
    """
    return sorted(places, key=lambda place: (-sizes.get(place[0], 0.0), -gains.get(place, 0.0)))


def to_fit(
    evals: Sequence[EvalRecord], controls: Collection[str], sizes: Mapping[str, float], most: int
) -> tuple[frozenset[Place], str]:
    """The models and arms whose curves are fitted, at most `most` and as many controls, and a sentence on the others."""
    places = list(dict.fromkeys((one.model, one.arm) for one in evals if one.arm is not None))
    arms = [place for place in places if place[1] not in controls]
    if len(arms) <= most:
        return frozenset(places), ""
    gains = validation_gains(evals)
    chosen = in_order(arms, gains, sizes)[:most]
    models = {model for model, _ in chosen}
    beside = [place for place in places if place[1] in controls and place[0] in models][:most]
    order = BY_VALIDATION if gains else AS_LISTED
    said = f"Curves are fitted for {most} of {len(arms)} models and arms (compare.most_fitted): {order}."
    return frozenset([*chosen, *beside]), said


def _scores(cell: Cell, part: str, left_out: Collection[str]) -> dict[str, float]:
    """By domain set that all seeds were scored on, the mean over seeds."""
    of_seeds = [
        {score.source: score for score in scored.record.held_out if _counts(score, part, left_out)} for scored in cell.scored
    ]
    names = [name for name in of_seeds[0] if all(name in scores for scores in of_seeds)]
    return {name: fmean(scores[name].bits_per_byte for scores in of_seeds) for name in names}


def _counts(score: HeldOutScore, part: str, left_out: Collection[str]) -> bool:
    return score.part == part and score.role == "domain" and score.source not in left_out


def _validation(record: EvalRecord) -> dict[str, float]:
    """Bits per byte on the validation part of each domain set."""
    return {one.source: one.bits_per_byte for one in record.held_out if one.part == "validation" and one.role == "domain"}
