"""Which models and arms stand first, where a study has more of them than can be drawn, read or fitted.

In: `EvalRecord`s. Out: models and arms in order. Guarantee: no score that is reported decides the order, since the largest of
many gains on the test part is partly luck. It is that of the gains on the validation part of domain sets or, where a model has
no score there, that of the study file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cpt_ray.records import EvalRecord

Place = tuple[str, str]
"""A model and an arm."""
BY_VALIDATION = "the largest model first, its arms by their domain gain on validation text, which no score here is of"
AS_LISTED = "the largest model first, its arms as the study lists them, whatever they scored"


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


def _validation(record: EvalRecord) -> dict[str, float]:
    """Bits per byte on the validation part of each domain set."""
    return {one.source: one.bits_per_byte for one in record.held_out if one.part == "validation" and one.role == "domain"}
