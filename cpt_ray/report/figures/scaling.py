"""The token-scaling figure: scores over tokens seen, and the curves fitted to them.

In: points of the comparison, and its fits in tokens. Out: figures of one panel per held-out set.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.records import Fit, Point
from cpt_ray.report.blocks import Figure, LegendEntry, Style, Table
from cpt_ray.report.figures.scales import Axis
from cpt_ray.report.figures.styles import INK, SOFT, group_legend, group_styles
from cpt_ray.report.figures.svg import COMPACT, HEIGHT, Dot, Panel, Series, draw
from cpt_ray.report.index import Group, Index
from cpt_ray.report.wording import count, level, number, signed

TOKENS = Axis("tokens seen", "tokens")
_BITS = Axis("bits per byte (lower is better)", show=lambda value: number(value, 3))


def scaling_figure(
    index: Index, sets: Sequence[tuple[str, str]], *, name: str = "scaling", title: str = "", compact: bool = False
) -> Figure | None:
    """Bits per byte over tokens, a panel per held-out set and its role; None if nothing was scored."""
    height = COMPACT if compact else HEIGHT
    points = [point for point in index.contents.comparison.points if not point.merged and (point.set_name in dict(sets))]
    if not points:
        return None
    groups, said = index.drawn()
    styles = group_styles(index, groups)
    by_place: dict[tuple[str, str, str | None], list[Point]] = {}
    for point in points:
        by_place.setdefault((point.set_name, point.model, point.arm), []).append(point)
    fits = {(fit.model, fit.arm, fit.set_name): fit for fit in index.contents.comparison.answers.fits if fit.kind == "tokens"}
    panels, curves = [], list[tuple[Group, Fit]]()
    for set_name, role in sets:
        series = [_bases(index, [points for (at, _, arm), points in by_place.items() if at == set_name and arm is None])]
        for group in groups:
            own = by_place.get((set_name, group.model, group.arm), [])
            base = by_place.get((set_name, group.model, None), [])
            fit = fits.get((group.model, group.arm, set_name))
            curves += [(group, fit)] if fit is not None and fit.curve else []
            series += _curve(index, group, styles[group.model, group.arm], [*base, *own], fit)
        panels.append(draw(Panel(f"{role}: {set_name}", TOKENS, _BITS, tuple(series), height=height)))
    legend = group_legend(index, groups, styles)
    if any(point.arm is None for point in points):
        legend.append(LegendEntry("base, at 0 tokens", Style(INK), line=False))
    if any(not point.annealed for point in points):
        legend.append(LegendEntry("hollow: not annealed, never a budget", Style(SOFT), hollow=True, line=False))
    caption = "Bars: the interval of the paired difference to the base, cut where it leaves the panel."
    if curves:
        sure = level(index.contents.comparison.answers.confidence)
        caption += f" Line with a band: the fitted curve, and the interval ({sure}) of its difference to the base."
    caption += " Pale: single seeds." if len({point.seed for point in points if point.arm is not None}) > 1 else ""
    return Figure(
        name, "Bits per byte over tokens seen on each held-out set", caption, tuple(panels), tuple(legend),
        _table(index, points, curves, name), said, title, height,
    )  # fmt: skip


def _bases(index: Index, found: Sequence[Sequence[Point]]) -> Series:
    dots = tuple(_dot(index, point) for points in found for point in points)
    return Series(Style(INK), dots, line=False)


def _curve(index: Index, group: Group, style: Style, points: Sequence[Point], fit: Fit | None) -> list[Series]:
    """The fitted curve, or where none was fitted the line through the means over seeds; then the means, and each score."""
    steps: dict[int, list[Point]] = {}
    for point in (point for point in points if point.annealed):
        run = index.runs.get(point.run)
        steps.setdefault((run.budget_tokens if run else None) or 0, []).append(point)
    several = any(budget and len(found) > 1 for budget, found in steps.items())
    means = tuple(_mean(index, group, budget, found) for budget, found in sorted(steps.items()))
    hollow = tuple(_dot(index, point) for point in points if not point.annealed)
    single = tuple(_dot(index, point) for point in points if point.annealed and point.arm is not None) if several else ()
    fitted = fit is not None and bool(fit.curve)
    return [
        Series(style, single, line=False, pale=True),
        Series(style, _fitted(index, group, fit) if fit is not None and fitted else means, mark=False, band=fitted),
        Series(style, tuple(dot for dot in means if dot.title), line=False),
        Series(style, hollow, line=False),
    ]


def _fitted(index: Index, group: Group, fit: Fit) -> tuple[Dot, ...]:
    """The places of a fitted curve, with the ends of its band."""
    dots = []
    for place in fit.curve:
        title = f"{index.label(group)}, fitted curve at {count(place.tokens)}: {number(place.bits_per_byte)}"
        title += f" ({number(place.low)} to {number(place.high)})"
        dots.append(Dot(place.tokens, place.bits_per_byte, title, y_bar=(place.low, place.high)))
    return tuple(dots)


def _mean(index: Index, group: Group, budget: int, points: Sequence[Point]) -> Dot:
    """The mean over seeds; the base itself is drawn elsewhere, so its place has no title."""
    value = sum(point.bits_per_byte for point in points) / len(points)
    if not budget:
        return Dot(0.0, value)
    delta = index.difference(group, budget, points[0].set_name)
    title = f"{index.label(group)} {count(budget)}: {number(value)}"
    bar = None
    if delta is not None and delta.interval is not None:
        low, high = delta.interval.low, delta.interval.high
        bar = (delta.reference_value + low, delta.reference_value + high)
        title += f"; {signed(delta.difference)} to the base ({signed(low)} to {signed(high)})"
    return Dot(index.tokens(group, budget), value, title, y_bar=bar)


def _dot(index: Index, point: Point) -> Dot:
    title = f"{index.name(point.run)}: {number(point.bits_per_byte)} at {count(point.tokens_seen)} tokens"
    title += "" if point.annealed else ", not annealed"
    return Dot(point.tokens_seen, point.bits_per_byte, title, hollow=not point.annealed)


def _table(index: Index, points: Sequence[Point], curves: Sequence[tuple[Group, Fit]], name: str) -> Table:
    rows = [
        (
            index.name(point.run), point.set_name, point.tokens_seen, point.bits_per_byte,
            point.interval.low if point.interval else None, point.interval.high if point.interval else None,
            "annealed" if point.annealed else "not annealed",
        )
        for point in points
    ]  # fmt: skip
    rows += [
        (index.label(group), fit.set_name, round(place.tokens), place.bits_per_byte, place.low, place.high, "fitted curve")
        for group, fit in curves
        for place in fit.curve
    ]
    return Table.of(
        f"figure_{name}", "", ("model", "set", "tokens seen", "bits per byte", "low", "high", "what"), rows, words=2
    )
