"""Gain against forgetting: what each model gained on the domain, and what it kept or lost elsewhere, both against its base.

In: differences of the comparison. Out: a figure of one panel per domain set and other set. Positive is better on both axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cpt_ray.records import Delta, RunRecord
from cpt_ray.report.blocks import Figure, LegendEntry, Style, Table
from cpt_ray.report.figures.scales import Axis
from cpt_ray.report.figures.styles import DASHES, INK, MERGED, group_legend, group_styles
from cpt_ray.report.figures.svg import COMPACT, HEIGHT, Dot, Panel, Series, draw
from cpt_ray.report.index import Index
from cpt_ray.report.wording import signed

_CORNERS = (
    (True, True, "better on both"), (True, False, "better on the domain only"),
    (False, True, "worse on the domain only"), (False, False, "worse on both"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trade:
    """One model: gains with the ends of their intervals, positive if better than the base."""

    subject: str
    run: RunRecord
    gain: float
    general: float
    gain_bar: tuple[float, float] | None
    general_bar: tuple[float, float] | None
    made_of: str = ""
    """Of a merge: the model or the cell that it was made of."""

    @property
    def weight(self) -> float | None:
        """Of an interpolation: the share of that model."""
        return self.run.merge.weight if self.run.merge is not None else None


def pairs_of(index: Index) -> list[tuple[str, str]]:
    """Domain set and other set of each panel: first the one on which the first model did worst, as the headline has it.

    The domain of one arm is another set for the arms of another domain.
    """
    pairs: dict[tuple[str, str], None] = {}
    for domain in index.domain_sets:
        groups = [group for group in index.groups if index.is_domain(group, domain)]
        order = list(dict.fromkeys(name for group in groups for name, role in index.sets_of(group) if role != "domain"))
        if groups:
            first = groups[0]
            judged = [(index.difference(first, first.budgets[-1], name), name) for name in order]
            ranked = [(*delta.loss_rank, name) for delta, name in judged if delta is not None]
            order.sort(key=lambda name: name != max(ranked)[2] if ranked else False)
        pairs |= dict.fromkeys((domain, other) for other in order)
    return list(pairs)


def trade_figure(
    index: Index, pairs: Sequence[tuple[str, str]], *, name: str = "forgetting", title: str = "", compact: bool = False
) -> Figure | None:
    """Domain gain over general gain; None if no model was compared with its base on both."""
    found = {pair: items for pair in pairs if (items := trades(index, pair))}
    if not found:
        return None
    groups, said = index.drawn()
    styles = group_styles(index, groups)
    height = COMPACT if compact else HEIGHT
    panels = tuple(draw(replace(_panel(index, pair, items, styles), height=height)) for pair, items in found.items())
    merged = any(item.made_of for items in found.values() for item in items)
    legend = group_legend(index, groups, styles)
    if merged:
        legend.append(LegendEntry("made without training", Style(INK, marker=MERGED), line=False))
    caption = (
        "Right of 0: better than the base on the domain. Below 0: worse elsewhere; what is forgetting, the table says. "
        "Lines join the budgets of an arm, from the base on; crosses are intervals."
    )
    caption += (
        " Stars were made without training; a dotted line goes from the base through interpolations to the model."
        if merged
        else ""
    )
    header = ("model", "domain set", "other set", "domain gain", "low", "high", "other gain", "low", "high")
    rows = [
        (index.name(i.subject), *pair, i.gain, *(i.gain_bar or (None, None)), i.general, *(i.general_bar or (None, None)))
        for pair, items in found.items()
        for i in items
    ]
    alt = "Domain gain against general gain of each model, relative to the base"
    table = Table.of(f"figure_{name}", "", header, rows, words=3)
    return Figure(name, alt, caption, panels, tuple(legend), table, said, title, height)


def trades(index: Index, pair: tuple[str, str]) -> list[Trade]:
    """All models compared with their base on both sets, of whose domain the first is; of a cell of several seeds, the mean."""
    sides: dict[str, dict[str, Delta]] = {name: {} for name in pair}
    for delta in index.contents.comparison.deltas:
        reference = index.run_of(delta.reference)
        if delta.set_name in sides and delta.measure == "bits_per_byte" and reference is not None and reference.kind == "base":
            sides[delta.set_name][delta.subject] = delta
    whole = {name.partition(" (")[0] for name in sides[pair[0]] if " (" in name}
    items = []
    for subject, domain in sides[pair[0]].items():
        run, other = index.run_of(subject), sides[pair[1]].get(subject)
        if run is None or other is None or domain.role != "domain":
            continue
        if run.cell in whole and " (" not in subject:
            continue  # one of the seeds of a cell that is there as a whole
        item = Trade(subject, run, -domain.difference, -other.difference, _bar(domain), _bar(other), _origin(subject, run))
        items.append(item)
    return items


def frontiers(items: Sequence[Trade]) -> list[tuple[Trade, tuple[Trade, ...]]]:
    """Each model with the interpolations between its base and it, by rising weight."""
    lines = []
    for end in (item for item in items if not item.made_of):
        between = [item for item in items if item.made_of == end.subject and item.weight is not None]
        if between:
            lines.append((end, tuple(sorted(between, key=lambda item: item.weight or 0.0))))
    return lines


def _origin(subject: str, run: RunRecord) -> str:
    if run.merge is None:
        return ""
    single = subject == run.run
    return run.merge.made_of if single else subject.replace(run.cell, run.cell.removesuffix(run.merge.suffix), 1)


def _bar(delta: Delta) -> tuple[float, float] | None:
    return (-delta.interval.high, -delta.interval.low) if delta.interval else None


def _panel(index: Index, pair: tuple[str, str], items: Sequence[Trade], styles: Mapping[tuple[str, str], Style]) -> Panel:
    series: list[Series] = []
    for (model, arm), style in styles.items():
        own = [item for item in items if (item.run.model, item.run.arm) == (model, arm)]
        trained = sorted((item for item in own if not item.made_of), key=lambda item: item.run.budget_tokens or 0)
        if trained:
            path = (Dot(0.0, 0.0), *(Dot(item.gain, item.general) for item in trained))
            series.append(Series(replace(style, dash=""), path, mark=False, pale=True))
            series.append(Series(style, tuple(_dot(index, item) for item in trained), line=False))
        made = tuple(_dot(index, item) for item in own if item.made_of)
        if made:
            series.append(Series(replace(style, marker=MERGED), made, line=False))
        for end, between in frontiers(own):
            path = (Dot(0.0, 0.0), *(Dot(item.gain, item.general) for item in (*between, end)))
            series.append(Series(replace(style, dash=DASHES[2]), path, mark=False))
    reach = max((abs(value) for item in items for value in (item.general, *(item.general_bar or ()))), default=0.0) or 1e-3
    # Four invisible corners keep zero inside, with room for the words in the corners.
    wide = max((abs(item.gain) for item in items), default=0.0) or 1e-3
    series.append(Series(Style(INK), (Dot(-0.45 * wide, -reach), Dot(wide, reach)), line=False, mark=False))
    gain = Axis(f"domain gain on {pair[0]}, bits per byte", show=lambda value: signed(value, 3))
    other = Axis(f"gain on {pair[1]}, bits per byte", show=lambda value: signed(value, 3))
    return Panel(f"{pair[0]} against {pair[1]}", gain, other, tuple(series), _CORNERS, (("x", 0.0), ("y", 0.0)))


def _dot(index: Index, item: Trade) -> Dot:
    title = f"{index.name(item.subject)}: domain {signed(item.gain)}, general {signed(item.general)}"
    return Dot(item.gain, item.general, title, x_bar=item.gain_bar, y_bar=item.general_bar)
