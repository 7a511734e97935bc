"""Draw a panel as SVG: axes, lines, points with error bars, a title on every point for those who hover.

In: a `Panel`. Out: SVG for the page, whose style sheet gives the colors, in light and in dark. Guarantee: the same panel
gives the same bytes, all text is escaped, and what is not finite is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup, escape

from cpt_ray.report.blocks import Style
from cpt_ray.report.figures.scales import Axis, Scale, make_scale

WIDTH, HEIGHT, COMPACT = 460, 320, 250
"""Of a panel; those of the first screen are compact, so that both figures fit beside the table."""
LEFT, RIGHT, TOP = 58, 448, 48
_BELOW = 44
"""Below the axis: its labels and its name."""
_BAR_ROOM = 0.75
MARKERS = {
    "o": "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z",
    "^": "M0-4.4l4.3 7.6h-8.6z",
    "D": "M0-4.6l4.6 4.6-4.6 4.6-4.6-4.6z",
    "v": "M0 4.4l-4.3-7.6h8.6z",
    "s": "M-3.4-3.4h6.8v6.8h-6.8z",
    "P": "M-1.4-4.2h2.8v2.8h2.8v2.8h-2.8v2.8h-2.8v-2.8h-2.8v-2.8h2.8z",
    "X": "M-2.4-4l2.4 2.4 2.4-2.4 1.6 1.6-2.4 2.4 2.4 2.4-1.6 1.6-2.4-2.4-2.4 2.4-1.6-1.6 2.4-2.4-2.4-2.4z",
    "*": "M0-6l1.5 4 4.3.2-3.4 2.6 1.2 4.1-3.6-2.4-3.6 2.4 1.2-4.1-3.4-2.6 4.3-.2z",
    (DAGGER := "\N{DAGGER}"): "M-.7-5.5h1.4v2.6h2.4v1.4h-2.4v7h-1.4v-7h-2.4v-1.4h2.4z",
}
"""Paths around 0."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a series; `x_bar` and `y_bar` are the ends of its error bars.

    `marker` overrides that of the series; `bound` draws an arrow: the true value lies above or below; `dagger` sets one beside
    the marker.
    """

    x: float
    y: float
    title: str = ""
    x_bar: tuple[float, float] | None = None
    y_bar: tuple[float, float] | None = None
    hollow: bool = False
    marker: str = ""
    bound: Literal["", "above", "below"] = ""
    dagger: bool = False

    @property
    def finite(self) -> bool:
        """Whether it can be drawn."""
        return math.isfinite(self.x) and math.isfinite(self.y)


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one look.

    Attributes:
        line: Whether a line joins them.
        mark: Whether each has a marker; without, the title of a point is shown around it.
        pale: Whether it stands behind another.
        area: Whether the space below is filled, as in a histogram.
        band: Whether the space between the ends of its error bars is filled, instead of the bars: a fitted curve, whose points
            are no values that an axis must name.
    """

    style: Style
    dots: tuple[Dot, ...]
    line: bool = True
    mark: bool = True
    pale: bool = False
    area: bool = False
    band: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: its axes and series.

    Attributes:
        corners: Words in the corners: (right, top) to text.
        guides: Horizontal and vertical lines, as ("x" or "y", value).
        height: Of the whole panel.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    corners: tuple[tuple[bool, bool, str], ...] = ()
    guides: tuple[tuple[Literal["x", "y"], float], ...] = ()
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class _Field:
    """Where values lie in pixels; `bottom` is where the x axis is."""

    x: Scale
    y: Scale
    bottom: int

    def across(self, value: float) -> str:
        return _number(LEFT + (RIGHT - LEFT) * min(max(self.x.place(value), 0.0), 1.0))

    def down(self, value: float) -> str:
        return _number(self.bottom - (self.bottom - TOP) * min(max(self.y.place(value), 0.0), 1.0))


def draw(panel: Panel) -> Markup:
    """Draw a panel."""
    dots = [dot for series in panel.series for dot in series.dots if dot.finite]
    named = [dot for series in panel.series for dot in series.dots if dot.finite and not series.band] or dots
    field = _Field(
        make_scale(panel.x, _reach([dot.x for dot in named], [dot.x_bar for dot in named], panel, "x")),
        make_scale(panel.y, _reach([dot.y for dot in dots], [dot.y_bar for dot in dots], panel, "y")),
        panel.height - _BELOW,
    )
    parts = [*_frame(panel, field), *(_draw_series(series, field) for series in panel.series)]
    for right, top, words in panel.corners:
        place = _text(
            RIGHT - 4 if right else LEFT + 6, TOP + 13 if top else field.bottom - 7, words, "f", "end" if right else "start"
        )
        parts.append(place)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {panel.height}" aria-hidden="true">{"".join(parts)}</svg>')  # noqa: S704 escaped above


def _reach(values: list[float], bars: Sequence[tuple[float, float] | None], panel: Panel, axis: str) -> list[float]:
    """What an axis must show: all points, and bars up to three quarters of the points' span beyond them."""
    shown = [*values, *(value for name, value in panel.guides if name == axis)]
    ends = [end for bar in bars if bar is not None for end in bar]
    if not shown or not ends:
        return shown
    low, high = min(shown), max(shown)
    room = _BAR_ROOM * (high - low)
    # One very wide interval would press all points into a line.
    return [*shown, *(min(max(end, low - room), high + room) if room else end for end in ends)]


def _frame(panel: Panel, field: _Field) -> list[str]:
    parts = [_text(LEFT, 15, panel.title, "t"), _text(LEFT, 33, panel.y.label, "f")]
    for value in field.y.ticks:
        at = field.down(value)
        parts.append(f'<path class="g" d="M{LEFT} {at}H{RIGHT}"/>')
        parts.append(_text(LEFT - 6, float(at) + 4, panel.y.show(value), "f", "end"))
    for value in field.x.ticks:
        at = field.across(value)
        parts.append(f'<path class="g" d="M{at} {field.bottom}v4"/>')
        parts.append(_text(float(at), field.bottom + 17, panel.x.show(value), "f", "middle"))
    parts.append(f'<path class="a" d="M{LEFT} {field.bottom}H{RIGHT}"/>')
    parts.append(_text((LEFT + RIGHT) / 2, panel.height - 8, panel.x.label, "f", "middle"))
    for name, value in panel.guides:
        line = f"M{field.across(value)} {TOP}V{field.bottom}" if name == "x" else f"M{LEFT} {field.down(value)}H{RIGHT}"
        parts.append(f'<path class="a" d="{line}"/>')
    return parts


def _draw_series(series: Series, field: _Field) -> str:
    dots = [dot for dot in series.dots if dot.finite]
    parts = []
    if series.band:
        ends = [(dot.x, *dot.y_bar) for dot in dots if dot.y_bar is not None]
        rim = [(at, high) for at, _, high in ends] + [(at, low) for at, low, _ in reversed(ends)]
        outline = "L".join(f"{field.across(at)} {field.down(end)}" for at, end in rim)
        parts += [f'<path class="r" d="M{outline}z"/>'] if ends else []
        dots = [replace(dot, y_bar=None) for dot in dots]
    if series.line and len(dots) > 1:
        path = "M" + "L".join(f"{field.across(dot.x)} {field.down(dot.y)}" for dot in dots)
        if series.area:
            path += f"V{field.bottom}H{field.across(dots[0].x)}z"
        dash = f' stroke-dasharray="{escape(series.style.dash)}"' if series.style.dash else ""
        parts.append(f'<path class="{"b" if series.area else "p" if series.pale else "l"}" d="{path}"{dash}/>')
    for dot in dots:
        parts.append(_dot(dot, series, field))
    pale = " pale" if series.pale else ""
    return f'<g class="{escape(series.style.color)}{pale}">{"".join(parts)}</g>'


def _dot(dot: Dot, series: Series, field: _Field) -> str:
    left, top = field.across(dot.x), field.down(dot.y)
    bars = ""
    if dot.y_bar is not None:
        low, high = (field.down(end) for end in dot.y_bar)
        bars += f"M{left} {low}V{high}"
    if dot.x_bar is not None:
        low, high = (field.across(end) for end in dot.x_bar)
        bars += f"M{low} {top}H{high}"
    if dot.bound:
        step = -1 if dot.bound == "above" else 1
        bars += f"M{left} {top}v{22 * step}m-4 {-5 * step}l4 {5 * step}l4 {-5 * step}"
    title = f"<title>{escape(dot.title)}</title>" if dot.title else ""
    shape = ""
    if series.mark:
        path = MARKERS.get(dot.marker or series.style.marker, MARKERS["o"])
        shape = f'<path class="{"h" if dot.hollow else "m"}" transform="translate({left} {top})" d="{path}"/>'
        if dot.dagger:
            shape += f'<path class="m" transform="translate({_number(float(left) + 8)} {top})" d="{MARKERS[DAGGER]}"/>'
    elif title:
        shape = f'<circle class="o" cx="{left}" cy="{top}" r="7"/>'
    line = f'<path class="e" d="{bars}"/>' if bars else ""
    return f"<g>{title}{line}{shape}</g>" if line or shape else ""


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    at = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text class="{kind}" x="{_number(x)}" y="{_number(y)}"{at}>{escape(words)}</text>'
