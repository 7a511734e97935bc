"""What a token still buys: the domain gain per million tokens, on average and of the last step.

In: differences against the base. Out: a figure of two panels per domain set.
"""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup

from cpt_ray.records import Delta
from cpt_ray.report.blocks import Figure, Table
from cpt_ray.report.figures.scales import Axis
from cpt_ray.report.figures.scaling import TOKENS
from cpt_ray.report.figures.styles import group_legend, group_styles
from cpt_ray.report.figures.svg import Dot, Panel, Series, draw
from cpt_ray.report.index import Group, Index
from cpt_ray.report.wording import count, rate, signed

_PER_MILLION = Axis("bits per byte gained per million tokens", show=rate, zero=True)


class _Gain(NamedTuple):
    """The gain of a budget in bits per byte; per million tokens since the base and of the last step, with their intervals."""

    budget: int
    tokens: float
    gain: float
    average: float
    interval: tuple[float, float] | None
    marginal: float
    marginal_interval: tuple[float, float] | None


def efficiency_figure(index: Index) -> Figure | None:
    """Gain per million tokens at each budget; None if nothing was compared with a base."""
    groups, said = index.drawn()
    styles = group_styles(index, groups)
    panels: list[Markup] = []
    rows: list[tuple[str | int | float | None, ...]] = []
    for set_name in index.domain_sets:
        found = [(group, _gains(index, group, set_name)) for group in groups if index.is_domain(group, set_name)]
        if not any(gains for _, gains in found):
            continue
        for title, marginal in (("since the base", False), ("since the budget before", True)):
            series = tuple(
                Series(styles[group.model, group.arm], tuple(_dot(index, group, gain, marginal=marginal) for gain in gains))
                for group, gains in found
            )
            panels.append(draw(Panel(f"{title}, on {set_name}", TOKENS, _PER_MILLION, series, guides=(("y", 0.0),))))
        rows += [
            (
                index.label(group), set_name, gain.budget, gain.gain,
                *map(_digits, (gain.average, *(gain.interval or (None, None)))),
                *map(_digits, (gain.marginal, *(gain.marginal_interval or (None, None)))),
            )
            for group, gains in found
            for gain in gains
        ]  # fmt: skip
    if not panels:
        return None
    last = "of the last step, per million tokens"
    header = ("model and arm", "set", "budget", "gain", "per million tokens", "low", "high", last, "low", "high")
    return Figure(
        "efficiency",
        "Domain gain per million tokens at each budget, since the base and since the budget before",
        "Since the base: the gain over all tokens. Since the budget before: what the tokens after the next smaller "
        "budget added, by the paired difference of the two. Bars: intervals, cut where they leave the panel.",
        tuple(panels),
        tuple(group_legend(index, groups, styles)),
        Table.of("figure_efficiency", "", header, rows, words=2),
        said,
    )


def _gains(index: Index, group: Group, set_name: str) -> list[_Gain]:
    found: list[_Gain] = []
    for place, budget in enumerate(group.budgets):
        delta = index.difference(group, budget, set_name)
        tokens = index.tokens(group, budget)
        if delta is None or not tokens:
            continue
        gain, millions = -delta.difference, tokens / 1e6
        step = (tokens - found[-1].tokens) / 1e6 if found else millions
        ends = _ends(delta, millions)
        marginal = (gain - (found[-1].gain if found else 0.0)) / step if step else 0.0
        before = index.difference(group, budget, set_name, reference="previous")
        since = delta if not found else before if found[-1].budget == group.budgets[place - 1] else None
        found.append(_Gain(budget, tokens, gain, gain / millions, ends, marginal, _ends(since, step)))
    return found


def _ends(delta: Delta | None, millions: float) -> tuple[float, float] | None:
    """The interval of a gain per million tokens."""
    if delta is None or delta.interval is None or not millions:
        return None
    return -delta.interval.high / millions, -delta.interval.low / millions


def _dot(index: Index, group: Group, gain: _Gain, *, marginal: bool) -> Dot:
    value, what = (gain.marginal, "of the last step") if marginal else (gain.average, "since the base")
    bar = gain.marginal_interval if marginal else gain.interval
    ends = f" ({_digits(bar[0])} to {_digits(bar[1])})" if bar is not None else ""
    title = f"{index.label(group)} {count(gain.budget)}: {_digits(value)}{ends} per million tokens {what}; "
    return Dot(gain.tokens, value, f"{title}gain {signed(gain.gain)}", y_bar=bar)


def _digits(value: float | None) -> str | None:
    return None if value is None else f"{value:+.3g}"
