"""Axes of a figure: where a value lies between 0 and 1, and which values are labeled.

Guarantee: a pure function of the values; every label lies within the axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from cpt_ray.report.wording import count

Kind = Literal["linear", "log", "tokens"]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows.

    Attributes:
        label: Quantity and unit.
        kind: `tokens` is logarithmic from the first budget on, with 0 at its left.
        show: A value as its label.
        zero: Whether 0 must be on it.
        room: Share of the span that is left free at both ends.
    """

    label: str
    kind: Kind = "linear"
    show: Callable[[float], str] = count
    zero: bool = False
    room: float = 0.06


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis with its range."""

    place: Callable[[float], float]
    """A value to 0 (left or bottom) up to 1."""
    ticks: tuple[float, ...]
    low: float
    high: float


def wants_log(tokens: Iterable[float]) -> bool:
    """Whether budgets call for a log axis: at least three that span more than a factor of 8."""
    budgets = sorted({value for value in tokens if value > 0})
    return len(budgets) >= 3 and budgets[-1] / budgets[0] > 8


def make_scale(axis: Axis, values: Iterable[float]) -> Scale:
    """The range and labels of an axis for these values; values that are not finite are ignored."""
    found = [value for value in values if math.isfinite(value)]
    if axis.kind == "tokens" and wants_log(found):
        return _tokens(sorted({value for value in found if value > 0}))
    if axis.kind == "tokens" and not any(found):
        return Scale(lambda _: 0.0, (0.0,), 0.0, 1.0)  # bases alone
    if axis.kind == "log":
        return _log([value for value in found if value > 0] or [1.0], axis.room)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if axis.zero or axis.kind == "tokens":
        low, high = min(low, 0.0), max(high, 0.0)
    span = high - low or abs(high) or 1.0
    low, high = (low - axis.room * span if low or axis.kind != "tokens" else 0.0), high + axis.room * span
    return _linear(low, high)


def _linear(low: float, high: float) -> Scale:
    step = _nice((high - low) / 5)
    first = math.ceil(low / step - 1e-9)
    ticks = tuple((first + i) * step for i in range(int((high - first * step) / step + 1e-9) + 1))
    return Scale(lambda value: (value - low) / (high - low), ticks, low, high)


def _nice(step: float) -> float:
    size = 10.0 ** math.floor(math.log10(step))
    return next(factor for factor in (1, 2, 2.5, 5, 10) if factor * size >= step * (1 - 1e-9)) * size


def _log(values: list[float], room: float) -> Scale:
    low, high = math.log10(min(values)), math.log10(max(values))
    # A single value needs an axis, and an axis a label.
    middle, span = (low + high) / 2, max(high - low, 0.35) * (1 + 2 * room)
    low, high = middle - span / 2, middle + span / 2
    factors = (1,) if span > 3 else (1, 3) if span > 1.5 else (1, 2, 5) if span > 0.6 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    ticks = [
        factor * 10.0**decade
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
        if low <= math.log10(factor * 10.0**decade) <= high
    ]
    thin = max(1, math.ceil(len(ticks) / 7))

    def place(value: float) -> float:
        return (math.log10(value) - low) / (high - low) if value > 0 else 0.0

    return Scale(place, tuple(ticks[::thin]), 10**low, 10**high)


def _tokens(budgets: list[float]) -> Scale:
    first, last = math.log10(budgets[0]), math.log10(budgets[-1])
    # 0 stands as far left of the first budget as a third of the way between first and last.
    gap = (last - first) / 3
    total = (last - first + gap) * 1.06

    def place(value: float) -> float:
        if value <= 0:
            return 0.0
        if value < budgets[0]:
            return gap * value / budgets[0] / total
        return (math.log10(value) - first + gap) / total

    ticks = [0.0]
    for budget in budgets:
        if place(budget) - place(ticks[-1]) > 0.13:
            ticks.append(budget)
    return Scale(place, tuple(ticks), 0.0, budgets[-1])
