"""The figures, as inline SVG; the same records give the same bytes.

In: `series`. Out: SVG text for the page, without XML header, metadata or URLs. Each figure is drawn twice, wide and narrow,
and the page shows the one that fits. Text stays text, in the page's font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from cpt_ray.records import Histogram, Point
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.series import (
    DASHES,
    INK,
    Curve,
    Line,
    Trade,
    WatchedLine,
    curves,
    frontiers,
    loss_lines,
    means,
    sets_of,
    trades,
    wants_log,
    watched_lines,
)
from cpt_ray.report.wording import count

WIDE_INCHES = 9.6
NARROW_INCHES = 4.3
SOFT, GRID, KEPT = "#595959", "#dddddd", "#7fb8d8"
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "text.parse_math": False,
    "axes.axisbelow": True,
}


def loss_figure(contents: ReportContents, *, narrow: bool = False) -> str | None:
    """Loss of all runs over tokens, with the learning rate below; None if no run has metrics."""
    lines = loss_lines(contents)
    if not lines:
        return None
    return draw_figure("loss", narrow, (5.2, 4.8), lambda figure: _loss(figure, lines))


def watched_figure(contents: ReportContents, *, narrow: bool = False) -> str | None:
    """Held-out loss during training, one panel per set; None if no run was watched."""
    panels = watched_lines(contents)
    if not panels:
        return None
    columns = 1 if narrow else min(2, len(panels))
    rows = -(-len(panels) // columns)
    return draw_figure("watched", narrow, (3.2 * rows, 3.0 * rows), lambda figure: _watched(figure, panels, columns))


def scaling_figure(contents: ReportContents, *, narrow: bool = False) -> str | None:
    """Bits per byte over tokens, one panel per held-out set; None if nothing was scored."""
    sets = sets_of(contents.comparison.points)
    if not sets:
        return None
    columns = 1 if narrow else min(2, len(sets))
    rows = -(-len(sets) // columns)
    return draw_figure("scaling", narrow, (3.6 * rows, 3.2 * rows), lambda figure: _scaling(figure, contents, sets, columns))


def forgetting_figure(contents: ReportContents, *, narrow: bool = False) -> str | None:
    """Domain gain against general change; None if no run was compared with its base on both."""
    pairs = trades(contents)
    if not pairs:
        return None
    columns = 1 if narrow or len(pairs) == 1 else 2
    rows = -(-len(pairs) // columns)

    def draw(figure: Figure) -> None:
        for number, ((domain, general), items) in enumerate(pairs.items(), start=1):
            _trade(figure.add_subplot(rows, columns, number), domain, general, items)

    return draw_figure("forgetting", narrow, (4.6 * rows, 4.0 * rows), draw)


def profile_figure(contents: ReportContents, *, narrow: bool = False) -> str | None:
    """Documents by length and by repetition, as read and as kept, two panels per source; None if nothing was measured."""
    panels: dict[tuple[str, str], dict[str, Histogram]] = {}
    for histogram in contents.profile.histograms:
        panels.setdefault((histogram.source, histogram.measure), {})[histogram.when] = histogram
    if not panels:
        return None
    columns = 1 if narrow else 2
    rows = -(-len(panels) // columns)

    def draw(figure: Figure) -> None:
        for number, ((source, measure), pair) in enumerate(sorted(panels.items()), start=1):
            _histogram(figure.add_subplot(rows, columns, number), source, measure, pair)

    return draw_figure("profile", narrow, (2.8 * rows, 2.8 * rows), draw)


def _histogram(axes: Any, source: str, measure: str, pair: Mapping[str, Histogram]) -> None:
    places = [place for histogram in pair.values() for place, count in enumerate(histogram.counts) if count]
    first, last = (min(places), max(places) + 1) if places else (0, 1)
    for when, histogram in pair.items():
        edges, heights = histogram.edges[first : last + 1], histogram.counts[first:last]
        if when == "kept":
            axes.stairs(heights, edges, fill=True, color=KEPT)
        else:
            axes.stairs(heights, edges, color=INK, linewidth=1.2)
    axes.set_ylabel("documents")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    if measure == "bytes":
        axes.set_title(f"{source}: length")
        axes.set_xlabel("bytes of UTF-8 (log scale)")
        axes.set_xscale("log", base=2)
        edges = next(iter(pair.values())).edges[first : last + 1]
        axes.xaxis.set_major_locator(FixedLocator(edges[:: max(1, len(edges) // 5)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.0f}" if value < 1024 else f"{value / 1024:.0f}Ki")
        )
    else:
        axes.set_title(f"{source}: repetition")
        axes.set_xlabel("share of 5-word sequences that occurred before")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def draw_figure(name: str, narrow: bool, heights: tuple[float, float], paint: Callable[[Figure], None]) -> str:
    """A figure as SVG: of the page's width or of a phone's, with the height in inches for each."""
    width, height = (NARROW_INCHES, heights[1]) if narrow else (WIDE_INCHES, heights[0])
    salt = f"cpt-ray-{name}-{'narrow' if narrow else 'wide'}"
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt}):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _inline(stream.getvalue())


def _inline(svg: str) -> str:
    """Keep what HTML needs: no header, metadata, namespaces or unreferenced ids; the page sets the size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
    head, _, rest = svg.partition(">")
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    return f'{head} aria-hidden="true">{rest.strip()}'


def _loss(figure: Figure, lines: Sequence[Line]) -> None:
    grid = figure.add_gridspec(2, 1, height_ratios=(3, 1))
    top = figure.add_subplot(grid[0])
    bottom = figure.add_subplot(grid[1], sharex=top)
    for line in lines:
        look: Any = {"color": line.style.color, "dashes": line.style.dash or (None, None)}
        # A single step is a point: a line through it would be invisible.
        mark: Any = {"marker": line.style.marker, "markersize": 4} if len(line.tokens) < 3 else {}
        if line.smooth != line.loss:
            top.plot(line.tokens, line.loss, linewidth=0.7, color=line.style.color, alpha=0.3)
        top.plot(line.tokens, line.smooth, linewidth=line.style.width, **look, **mark)
        bottom.plot(line.tokens, line.learning_rate, linewidth=line.style.width, **look, **mark)
    top.set_ylabel("training loss, nats per token")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("tokens seen (loss-bearing)")
    bottom.set_ylim(bottom=0)
    bottom.yaxis.set_major_locator(MaxNLocator(3))
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _rate(value)))
    top.tick_params(labelbottom=False)
    top.yaxis.set_major_locator(MaxNLocator(6))
    _linear_tokens(bottom)


def _watched(figure: Figure, panels: Mapping[tuple[str, str], Sequence[WatchedLine]], columns: int) -> None:
    rows = -(-len(panels) // columns)
    for number, ((source, role), lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.set_title(f"{role}: {source}, during training")
        for line in lines:
            look: Any = {"color": line.style.color, "dashes": line.style.dash, "linewidth": line.style.width}
            mark: Any = {"marker": line.style.marker, "markersize": 3.5, "markerfacecolor": "white"}
            axes.plot(line.tokens, line.bits_per_byte, **look, **mark)
        axes.set_ylabel("bits per byte (validation half)")
        axes.set_xlabel("tokens seen")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        _linear_tokens(axes)


def _scaling(figure: Figure, contents: ReportContents, sets: Sequence[tuple[str, str]], columns: int) -> None:
    rows = -(-len(sets) // columns)
    budgets = [p.tokens_seen for p in contents.comparison.points if p.annealed]
    for number, (set_name, role) in enumerate(sets, start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.set_title(f"{role}: {set_name}")
        for curve in curves(contents, set_name):
            _curve(axes, curve)
        own = [p for p in contents.comparison.points if p.set_name == set_name]
        for point in (p for p in own if p.arm is None):
            _point(axes, point, color=INK, marker="o", hollow=False)
        _label_base(axes, [p for p in own if p.arm is None])
        axes.set_ylabel("bits per byte (lower is better)")
        axes.margins(x=0.06, y=0.14)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        if wants_log(budgets):
            _log_tokens(axes, budgets)
        else:
            axes.set_xlabel("tokens seen")
            _linear_tokens(axes)
        _label_hollow(axes, [p for p in own if not p.annealed], own)


def _curve(axes: Any, curve: Curve) -> None:
    line = means(curve.annealed)
    axes.plot(
        [t for t, _ in line],
        [v for _, v in line],
        color=curve.style.color,
        linewidth=1.5,
        dashes=curve.style.dash or (None, None),
    )
    for point in curve.annealed:
        if point.arm is not None:
            _point(axes, point, color=curve.style.color, marker=curve.style.marker, hollow=False)
    for point in curve.hollow:
        _point(axes, point, color=curve.style.color, marker=curve.style.marker, hollow=True)


def _label_hollow(axes: Any, hollow: Sequence[Point], all_points: Sequence[Point]) -> None:
    """Write "not annealed" over the last hollow point, above its neighbors' error bars."""
    if not hollow:
        return
    last = max(hollow, key=lambda p: p.tokens_seen)

    def across(point: Point) -> float:
        return float(axes.transAxes.inverted().transform(axes.transData.transform((point.tokens_seen, 0)))[0])

    near = [p for p in all_points if p.arm == last.arm and abs(across(p) - across(last)) < 0.12]
    axes.annotate(
        "not annealed",
        (last.tokens_seen, max(_bar(p)[1] for p in near)),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color=SOFT,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85},
        zorder=5,
    )


def _bar(point: Point) -> tuple[float, float]:
    """The ends of a point's error bar: its value twice if it has no interval."""
    return (point.interval.low, point.interval.high) if point.interval else (point.bits_per_byte, point.bits_per_byte)


def _point(axes: Any, point: Point, *, color: str, marker: str, hollow: bool) -> None:
    value = point.bits_per_byte
    low, high = _bar(point)
    axes.errorbar(
        [point.tokens_seen],
        [value],
        yerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
        color=color,
        marker=marker,
        markersize=6,
        markerfacecolor="white" if hollow else color,
        capsize=3,
        elinewidth=1,
    )


def _label_base(axes: Any, bases: Sequence[Point]) -> None:
    for base in bases:
        axes.annotate(
            "base" if len(bases) == 1 else f"base {base.model}",
            (0, base.bits_per_byte),
            xytext=(7, 5),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )


def _trade(axes: Any, domain: str, general: str, items: Sequence[Trade]) -> None:
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    for line in frontiers(items):
        axes.plot(*zip(*line.points, strict=True), color=line.style.color, linewidth=1, dashes=DASHES[2])
    for item in items:
        (x, x_low, x_high), (y, y_low, y_high) = item.gain, item.general
        axes.errorbar(
            [x],
            [y],
            xerr=[[max(0.0, x - x_low)], [max(0.0, x_high - x)]],
            yerr=[[max(0.0, y - y_low)], [max(0.0, y_high - y)]],
            color=item.style.color,
            marker=item.style.marker,
            markersize=9 if item.made_of else 6.5,
            capsize=3,
            elinewidth=1,
        )
    narrow = axes.figure.get_figwidth() < 6
    axes.set_xlabel(f"domain gain on {domain},{chr(10) if narrow else ' '}bits per byte better than base")
    axes.set_ylabel(f"general gain on {general},\nbits per byte better than base")
    # The words are in the corners, so each axis extends past zero far enough to leave room for them.
    for low, high, fix in ((*axes.get_xlim(), axes.set_xlim), (*axes.get_ylim(), axes.set_ylim)):
        room = (0.6 if narrow else 0.28) * max(high, -low)
        fix(min(low, -room) - 0.12 * room, max(high, room) + 0.12 * room)
    words = {
        (1, 1): "gain, nothing forgotten",
        (1, 0): "gain, but forgetting",
        (0, 1): "no domain gain",
        (0, 0): "worse on both",
    }
    for (right, top), text in words.items():
        axes.text(
            0.985 if right else 0.015,
            0.975 if top else 0.025,
            text,
            transform=axes.transAxes,
            ha="right" if right else "left",
            va="top" if top else "bottom",
            fontsize=8,
            color=SOFT,
            style="italic",
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))


def _linear_tokens(axes: Any) -> None:
    width = axes.figure.get_figwidth() / (2 if len(axes.figure.axes) > 2 else 1)
    axes.xaxis.set_major_locator(MaxNLocator(5 if width < 6 else 8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value) if value >= 0 else ""))


def _rate(value: float) -> str:
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"


def _log_tokens(axes: Any, tokens: Sequence[int]) -> None:
    budgets = sorted({t for t in tokens if t > 0})
    axes.set_xscale("symlog", linthresh=budgets[0], linscale=0.6)
    axes.set_xlim(-0.1 * budgets[0], budgets[-1] * 1.35)
    ticks = [0]
    for budget in budgets:
        # At this width, labels need a factor of about 1.6 between them.
        if ticks[-1] == 0 or budget / ticks[-1] > 1.6:
            ticks.append(budget)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.set_xlabel(f"tokens seen (log scale from {count(budgets[0])})")
