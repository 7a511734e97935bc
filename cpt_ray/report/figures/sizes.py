"""Sizes and arms: loss against compute with the fitted power laws, and the efficiency of domain text against model size.

In: points, runs, and the fits and ratios of the comparison's answers. Out: two figures. A ratio that is only bounded, because
one side never reached the loss, is drawn with an arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cpt_ray.compare.efficiency import DEFINITION
from cpt_ray.records import EfficiencyRatio, Fit
from cpt_ray.report.blocks import Figure, LegendEntry, Style, Table
from cpt_ray.report.figures.scales import Axis
from cpt_ray.report.figures.styles import COLORS, SHAPES, SOFT, group_legend, group_styles
from cpt_ray.report.figures.svg import DAGGER, Dot, Panel, Series, draw
from cpt_ray.report.index import Group, Index
from cpt_ray.report.wording import count, number, scientific

_CURVE = 24
"""Points of a drawn fit."""
_APART = 1.05
"""Factor between series of the same size, whose points would hide one another."""


def compute_figure(index: Index) -> Figure | None:
    """Domain loss over FLOPs of each model and arm; None if there is only one, or the records do not say what runs cost."""
    groups, said = index.drawn()
    if len(groups) < 2:
        return None
    styles = group_styles(index, groups)
    fits = {(fit.model, fit.arm, fit.set_name): fit for fit in index.contents.comparison.answers.fits if fit.kind == "compute"}
    panels, rows = [], []
    for set_name in index.domain_sets:
        series: list[Series] = []
        for group in groups:
            dots = _spent(index, group, set_name)
            fit = fits.get((group.model, group.arm, set_name))
            style = styles[group.model, group.arm]
            if fit is not None and len(fit.parameters) == 2:
                series.append(Series(style, _law(index.label(group), fit, dots), mark=False))
            series.append(Series(style, dots, line=False))
            rows += [(index.label(group), set_name, scientific(dot.x), dot.y) for dot in dots]
        if any(one.dots for one in series):
            axes = Axis("FLOPs of training", "log", _power), Axis("bits per byte (lower is better)", show=number)
            panels.append(draw(Panel(f"loss against compute on {set_name}", *axes, tuple(series))))
    if not panels:
        return None
    table = Table.of("figure_compute", "", ("model and arm", "set", "FLOPs", "bits per byte"), rows, words=2)
    caption = (
        "A point is a budget, with the interval of the paired difference to the base; a line is the power law fitted to its "
        "arm, where there is one (parameters under Fitted curves)."
    )
    legend = tuple(group_legend(index, groups, styles))
    return Figure("compute", "Loss on domain text against FLOPs, by model and arm", caption, tuple(panels), legend, table, said)


def ratio_figure(index: Index) -> Figure | None:
    """The efficiency ratio of domain text over parameters; None if fewer than two sizes have one or are known."""
    ratios = [one for one in index.contents.comparison.answers.ratios if one.parameters and (one.ratio or one.bound)]
    if len({one.parameters for one in ratios}) < 2:
        return None
    arms = list(dict.fromkeys(one.arm for one in ratios))[:COLORS]
    targets = list(dict.fromkeys(one.target for one in ratios))
    panels = []
    for set_name in dict.fromkeys(one.set_name for one in ratios):
        series = [Series(Style("ks"), (Dot(float(ratios[0].parameters or 1), 1.0),), line=False, mark=False)]
        for place, arm in enumerate(arms):
            for shape, target in zip(SHAPES, targets, strict=False):
                own = [one for one in ratios if (one.arm, one.target, one.set_name) == (arm, target, set_name)]
                style = Style(f"k{place}", marker=shape)
                series.append(Series(style, tuple(_ratio_dot(one, _APART ** len(series)) for one in own), line=False))
        axes = (
            Axis("parameters", "log"),
            Axis("FLOPs of the control over those of the arm", "log", lambda value: f"{value:.3g}"),
        )
        panels.append(draw(Panel(f"efficiency ratio on {set_name}", *axes, tuple(series), guides=(("y", 1.0),))))
    legend = [LegendEntry(arm, Style(f"k{place}"), mark=False) for place, arm in enumerate(arms)]
    legend += [
        LegendEntry(target, Style(SOFT, marker=shape), line=False) for shape, target in zip(SHAPES, targets, strict=False)
    ]
    legend += [LegendEntry("hollow: by fitted curves", Style(SOFT), hollow=True, line=False)]
    if any(one.censored for one in ratios):
        legend.append(LegendEntry("censored: see Efficiency of domain text", Style(SOFT, marker=DAGGER), line=False))
    caption = f"{DEFINITION} An arrow: only a bound, because the control (up) or the arm (down) never reached the loss."
    return Figure(
        "ratio", "Efficiency ratio of domain text over model size", caption, tuple(panels), tuple(legend), _table(ratios)
    )


def _spent(index: Index, group: Group, set_name: str) -> tuple[Dot, ...]:
    """A point per budget: the means over seeds, with the interval of the difference to the base."""
    dots = []
    for budget in group.budgets:
        delta, flops = index.difference(group, budget, set_name), index.flops(group, budget)
        if delta is None or flops <= 0:
            continue
        base, ends = delta.reference_value, delta.interval
        title = f"{index.label(group)} {count(budget)}: {number(delta.subject_value)} at {scientific(flops)} FLOPs"
        bar = (base + ends.low, base + ends.high) if ends is not None else None
        dots.append(Dot(flops, delta.subject_value, title, y_bar=bar))
    return tuple(sorted(dots, key=lambda dot: dot.x))


def _law(label: str, fit: Fit, dots: Sequence[Dot]) -> tuple[Dot, ...]:
    """The power law a (x/x_max)^-b over the range that it was fitted to."""
    if len(dots) < 2:
        return ()
    values = {one.name: one.value for one in fit.parameters}
    low, high = dots[0].x, dots[-1].x
    places = [low * (high / low) ** (i / (_CURVE - 1)) for i in range(_CURVE)]
    losses = [values["a"] * (x / high) ** -values["b"] for x in places]
    return tuple(
        Dot(x, loss, f"{label}, fitted power law at {scientific(x)} FLOPs: {number(loss)}")
        for x, loss in zip(places, losses, strict=True)
    )


def _ratio_dot(one: EfficiencyRatio, shift: float) -> Dot:
    x, hollow = float(one.parameters or 0) * shift, one.basis == "fitted"
    name = f"{one.model}, {one.arm}, to reach {one.target}{', censored' * one.censored} ({one.basis})"
    if one.ratio is None:
        value = one.bound_value or 1.0
        words = f"{name}: {one.bound} {number(value, 2)}"
        bound: Literal["above", "below"] = "above" if one.bound == ">" else "below"
        return Dot(x, value, words, hollow=hollow, bound=bound, dagger=one.censored)
    low, high = one.ratio.low, one.ratio.high
    bar = (low or one.ratio.value, high or one.ratio.value) if low or high else None
    ends = f" ({number(low, 2)} to {number(high, 2)})" if bar else ", no interval"
    return Dot(x, one.ratio.value, f"{name}: {number(one.ratio.value, 2)}{ends}", y_bar=bar, hollow=hollow, dagger=one.censored)


def _table(ratios: Sequence[EfficiencyRatio]) -> Table:
    rows = [
        (
            one.model, one.arm, f"{one.target}{', censored' * one.censored} ({one.basis})", one.parameters, one.target_loss,
            one.ratio.value if one.ratio else f"{one.bound} {number(one.bound_value, 2)}",
            one.ratio.low if one.ratio else None, one.ratio.high if one.ratio else None,
        )
        for one in ratios
    ]  # fmt: skip
    header = ("model", "arm", "loss to reach", "parameters", "bits per byte", "ratio", "low", "high")
    return Table.of("figure_ratio", "", header, rows, words=3)


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e+", "e")
