"""What a benchmark says, and when it may say it.

A claim names a range outside which its value cannot be; a value out there is an error of the measurement, not a result. A claim
whose own spread reaches across its target is not judged: it says how much more work would settle it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Judgement = Literal["met", "missed", "not judged", "no target"]

POSITIVE = (0.0, math.inf)
"""Of a time, a rate, a size or a ratio of these: above 0."""
SHARE = (0.0, 1.0)
DIFFERENCE = (-1.0, 1.0)
"""Of a difference of two shares."""
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}
START_NOISE = 0.1
"""Relative spread of what a program takes to start: Ray took 23 to 28 CPU seconds in eight starts on one machine."""


class ImpossibleError(ValueError):
    """A value that cannot be."""


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
    """What a program took beyond its start, each measured once: both starts vary, one of them inside `whole`."""
    return Figure(whole - start, math.sqrt(2) * noise * start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing that a benchmark says.

    Args:
        id: Stable name, unique within its theme.
        claim: The sentence that `value` supports.
        value: What was measured, in `unit`.
        unit: The unit, written out.
        possible: Bounds of what the value can be; the lower one excluded where it is 0 and `value` is a rate or a time.
        spread: One standard deviation of `value`, as far as it is known.
        work: How much text, how many steps were measured, such as `12 MB`; what a claim that is not judged needs more of.
        target: A comparison such as `<= 1.0`, or None where there is nothing to reach.
        compared_with: The other side: a baseline, a reference implementation, a published figure.
        raw: The single measurements behind `value`, or the path of a file that holds them.
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

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            ImpossibleError: If the value is outside its range, or no number where one is claimed.
        """
        if self.possible is None:
            return
        low, high = self.possible
        if isinstance(self.value, str):
            raise ImpossibleError(f"claim {self.id}: {self.value!r} is no number")
        inside = low < self.value <= high if self.possible == POSITIVE else low <= self.value <= high
        if not inside or not math.isfinite(self.value):
            raise ImpossibleError(
                f"claim {self.id}: {self.value:.4g} {self.unit} cannot be; it is between {low:g} and {high:g}. {self.need()}"
            )

    def judge(self) -> Judgement:
        """Whether the target is reached, as far as the spread allows to say.

        Raises:
            ValueError: If the target is not a comparison with a number, or the value is no number.
        """
        if self.target is None:
            return "no target"
        sign, _, bound = self.target.partition(" ")
        if sign not in _COMPARISONS or isinstance(self.value, str):
            raise ValueError(f"claim {self.id}: target {self.target!r} must read like '<= 1.0', and its value be a number")
        if self.spread and abs(self.value - float(bound)) < 2 * self.spread:
            return "not judged"
        return "met" if _COMPARISONS[sign](self.value, float(bound)) else "missed"

    def need(self) -> str:
        """How much more work would settle it: the spread is of what does not grow with the work."""
        if self.work is None or self.target is None or isinstance(self.value, str):
            return "measure more of it"
        amount, unit = self.work
        away = abs(self.value - float(self.target.partition(" ")[2]))
        # With a target this near, no amount settles it; ten times the work says which side it is likely on.
        factor = min(max(2.5 * self.spread / away if away else 10.0, 2.0), 10.0)
        return f"{amount:g} {unit} were too little: measure at least {math.ceil(amount * factor):g} {unit}"
