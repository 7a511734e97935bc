"""The claims of a benchmark, and when they can be judged.

A claim names the range of possible values; a value outside it is a measurement error, not a result. A claim whose spread
reaches across its target is not judged: it says how much more work would settle it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Judgement = Literal["met", "missed", "not judged", "no target"]

POSITIVE = (0.0, math.inf)
"""For a time, a rate, a size or a ratio of these: above 0."""
SHARE = (0.0, 1.0)
DIFFERENCE = (-1.0, 1.0)
"""For a difference of two shares."""
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}
START_NOISE = 0.1
"""Relative spread of start-up cost: Ray took 23 to 28 CPU seconds in eight starts on one machine."""


class ImpossibleError(ValueError):
    """A value outside its possible range."""


@dataclass(frozen=True)
class Figure:
    """A measured number and its spread, one standard deviation; spreads of independent numbers add in quadrature."""

    value: float
    spread: float = 0.0

    def __sub__(self, other: Figure) -> Figure:
        return Figure(self.value - other.value, math.hypot(self.spread, other.spread))

    def __truediv__(self, other: Figure) -> Figure:
        value = self.value / other.value if other.value else math.inf
        relative = [abs(one.spread / one.value) if one.value else math.inf for one in (self, other)]
        return Figure(value, abs(value) * math.hypot(*relative))


def beyond_start(whole: float, start: float, *, noise: float = START_NOISE) -> Figure:
    """What a program used beyond its start-up, each measured once: both starts vary, one of them inside `whole`."""
    return Figure(whole - start, math.sqrt(2) * noise * start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of a benchmark.

    Args:
        id: Stable name, unique within the theme.
        claim: The sentence that `value` supports.
        value: The measured value, in `unit`.
        unit: The unit, written out.
        possible: Bounds of the value; the lower one is excluded for `POSITIVE`.
        spread: One standard deviation of `value`, as far as known.
        work: The measured amount of text or number of steps, such as `12 MB`; an unjudged claim needs more of it.
        target: A comparison such as `<= 1.0`, or None where there is no target.
        compared_with: The other side: a baseline, a reference implementation, a published figure.
        raw: The individual measurements behind `value`, or the path of a file with them.
    """

    id: str
    claim: str
    value: float | int | bool | str
    unit: str
    possible: tuple[float, float] | None
    spread: float = 0.0
    work: tuple[float, str] | None = None
    target: str | None = None
    compared_with: str | None = None
    raw: Any = field(default=None)

    def problem(self) -> str | None:
        """Why the value cannot be: it is outside its range, or no number where one is claimed; None if it can."""
        if self.possible is None:
            return None
        low, high = self.possible
        if isinstance(self.value, str):
            return f"claim {self.id}: {self.value!r} is not a number"
        inside = low < self.value <= high if self.possible == POSITIVE else low <= self.value <= high
        if inside and math.isfinite(self.value):
            return None
        return f"claim {self.id}: {self.value:.4g} {self.unit} is impossible: not between {low:g} and {high:g}. {self.need()}"

    def judge(self) -> Judgement:
        """Whether the target is met, as far as the spread allows a judgement.

        Raises:
            ValueError: If the target is not a comparison with a number, or the value is not a number.
        """
        if self.target is None:
            return "no target"
        sign, _, bound = self.target.partition(" ")
        if sign not in _COMPARISONS or isinstance(self.value, str):
            raise ValueError(f"claim {self.id}: target {self.target!r} must look like '<= 1.0', and the value must be a number")
        if self.spread and abs(self.value - float(bound)) < 2 * self.spread:
            return "not judged"
        return "met" if _COMPARISONS[sign](self.value, float(bound)) else "missed"

    def need(self) -> str:
        """How much more work would settle it; assumes the spread does not grow with the work."""
        if self.work is None or self.target is None or isinstance(self.value, str):
            return "measure more of it"
        amount, unit = self.work
        away = abs(self.value - float(self.target.partition(" ")[2]))
        # With a target this close, no amount settles it; ten times the work shows which side it is likely on.
        factor = min(max(2.5 * self.spread / away if away else 10.0, 2.0), 10.0)
        return f"{amount:g} {unit} is not enough: measure at least {math.ceil(amount * factor):g} {unit}"
