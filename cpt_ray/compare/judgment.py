"""What is measurable, and what may be said of it: decided here and nowhere else, for console, page, MLflow and JSON.

In: paired differences, and predictions of fitted curves. Out: judgments, of which None is always "the data cannot tell".
Guarantee: a prediction or a decision never says more than the paired difference that was measured for it. All differences of
a family are judged together (Holm 1979), so what is gated by them keeps the level of that family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cpt_ray.evaluate import intervals
from cpt_ray.records import MEASURES, Delta, Estimated


@dataclass(frozen=True)
class Judged:
    """The differences in bits per byte on which a study's verdict stands, over all seeds.

    Attributes:
        against_base: By model, arm, budget and set.
        last_step: By model, arm and set: the largest budget against the next smaller one.
    """

    against_base: Mapping[tuple[str, str, int, str], Delta] = field(default_factory=dict)
    last_step: Mapping[tuple[str, str, str], Delta] = field(default_factory=dict)


def judge(family: Sequence[tuple[Delta, intervals.Estimate]], confidence: float) -> list[Delta]:
    """Decide which differences of a family are measurable, in which direction, and how large one must be to be measurable.

    Args:
        family: All that are judged together, each with what it was made of.
        confidence: Level of the family.
    """
    judged = []
    p_values = [delta.p_value for delta, _ in family]
    level = 1 - intervals.holm_level(p_values, 1 - confidence)
    for (delta, found), adjusted in zip(family, intervals.holm(p_values), strict=True):
        better = None
        if adjusted <= 1 - confidence and delta.interval is not None:
            better = (delta.difference < 0) == MEASURES[delta.measure].lower_is_better
        known = {"adjusted_p_value": adjusted, "smallest_effect": found.smallest_effect(level), "better": better}
        judged.append(delta.model_copy(update=known))
    return judged


def within(delta: Delta | None, tolerance: float) -> bool | None:
    """Whether a loss in bits per byte stays within a tolerance; what is not measurably worse than the base never exceeds it."""
    if delta is None or delta.interval is None:
        return None
    if delta.interval.high <= tolerance:
        return True
    return False if delta.better is False and delta.interval.low > tolerance else None


def predict(change: Estimated, measured: Delta | None) -> tuple[bool | None, str]:
    """Whether a predicted change in bits per byte is a gain, and if that cannot be told, why.

    Args:
        change: Against the base, with its interval.
        measured: The difference to the base at the largest budget that was run.
    """
    if change.sign == 0:
        return None, "the interval holds zero"
    if measured is None or measured.interval is None:
        return None, "the largest budget that was run could not be judged"
    if measured.better is None:
        return None, "the largest budget that was run does not measurably differ from the base"
    if measured.better is not (change.sign < 0):
        return None, "the largest budget that was run differs from the base in the other direction"
    return measured.better, ""


def prefer(against: Estimated | None) -> bool | None:
    """Whether an option ends lower than more tokens, by an interval at the level of all options together."""
    return None if against is None or against.sign == 0 else against.sign < 0
