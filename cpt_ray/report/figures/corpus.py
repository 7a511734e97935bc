"""What the text looks like: documents by length and by repetition, and what each threshold of a filter finds.

In: the corpus profile and the yields of filters. Out: figures of one panel per source and measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cpt_ray.records import Histogram
from cpt_ray.report.blocks import Figure, LegendEntry, Style, Table
from cpt_ray.report.figures.scales import Axis
from cpt_ray.report.figures.styles import COLORS, DASHES, INK
from cpt_ray.report.figures.svg import Dot, Panel, Series, draw
from cpt_ray.report.index import Index
from cpt_ray.report.wording import count, integer

_KEPT, _READ = Style("k0"), Style(INK)


def profile_figure(index: Index) -> Figure | None:
    """Documents by length and by repetition, as read and as kept, two panels per source; None if nothing was measured."""
    panels: dict[tuple[str, str], dict[str, Histogram]] = {}
    for histogram in index.contents.profile.histograms:
        panels.setdefault((histogram.source, histogram.measure), {})[histogram.when] = histogram
    if not panels:
        return None
    drawn = tuple(draw(_histogram(source, measure, pair)) for (source, measure), pair in sorted(panels.items()))
    rows = [
        (h.source, h.measure, h.when, f"{low:.4g}", f"{high:.4g}", documents)
        for h in index.contents.profile.histograms
        for low, high, documents in zip(h.edges[:-1], h.edges[1:], h.counts, strict=True)
        if documents
    ]
    header = ("source", "measure", "when", "from", "to", "documents")
    legend = (
        LegendEntry("as read", _READ, mark=False),
        LegendEntry("as kept after cleaning and duplicate removal", Style("k0", marker="s"), line=False),
    )
    caption = (
        "Repetition is the share of a document's 5-word sequences that occurred in it before, ignoring case and punctuation. "
        "The first and last bins also hold what is beyond them."
    )
    alt = "Documents of each source by length and by repetition, as read and as kept"
    table = Table.of("figure_profile", "", header, rows, words=3)
    return Figure("profile", alt, caption, drawn, legend, table, title="Length and repetition")


def _histogram(source: str, measure: str, pair: Mapping[str, Histogram]) -> Panel:
    places = [place for histogram in pair.values() for place, number in enumerate(histogram.counts) if number]
    first, last = (min(places), max(places) + 1) if places else (0, 1)
    series = []
    for when in ("kept", "read"):
        if when not in pair:
            continue
        edges, heights = pair[when].edges[first : last + 1], pair[when].counts[first:last]
        sides = [(x, height) for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True) for x in (low, high)]
        dots = tuple(Dot(x, float(height)) for x, height in sides)
        style = _KEPT if when == "kept" else _READ
        series.append(Series(style, dots, mark=False, area=when == "kept"))
        middles = tuple(
            Dot((low + high) / 2, float(height), f"{source}, {when}: {integer(height)} documents from {low:.4g} to {high:.4g}")
            for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True)
        )
        series.append(Series(style, middles, line=False, mark=False))
    documents = Axis("documents", zero=True)
    if measure == "bytes":
        return Panel(f"{source}: length", Axis("bytes of UTF-8 (log scale)", "log", room=0.02), documents, tuple(series))
    share = Axis("share of 5-word sequences that occurred before", show=lambda value: f"{100 * value:.0f} %", room=0.02)
    return Panel(f"{source}: repetition", share, documents, tuple(series))


def yield_figure(index: Index) -> Figure | None:
    """Documents and tokens of a source from each threshold on, with the thresholds in use; None without a classifier."""
    yields = index.contents.domains.yields
    if not yields:
        return None
    styles = [Style(f"k{i % COLORS}", DASHES[i // COLORS % len(DASHES)]) for i in range(len(yields))]
    panels = []
    for measure in ("documents", "tokens"):
        series = []
        for found, style in zip(yields, styles, strict=True):
            name, values = f"{found.classifier} on {found.source}", getattr(found, measure)
            # Most of a general source scores near 0: on a linear axis the domain would be a line on the floor.
            line = tuple(Dot(x, math.log10(1 + y)) for x, y in zip(found.thresholds, values, strict=True))
            used = tuple(
                Dot(
                    one.threshold,
                    math.log10(1 + getattr(one, measure)),
                    f"{name}: {integer(getattr(one, measure))} {measure} from {one.threshold:g} on",
                )
                for one in found.used
            )
            series += [Series(style, line, mark=False), Series(style, used, line=False)]
        found_axis = Axis(f"{measure} (log scale)", show=lambda value: count(round(10**value - 1)), zero=True)
        panels.append(
            draw(
                Panel(
                    f"{measure} found", Axis("threshold on the probability", show=lambda v: f"{v:g}"), found_axis, tuple(series)
                )
            )
        )
    rows = [
        (f"{found.classifier} on {found.source}", f"{threshold:g}", documents, tokens)
        for found in yields
        for threshold, documents, tokens in zip(found.thresholds, found.documents, found.tokens, strict=True)
    ]
    legend = tuple(
        LegendEntry(f"{found.classifier} on {found.source}", style, mark=False)
        for found, style in zip(yields, styles, strict=True)
    )
    caption = (
        "Packed documents and tokens of the source that score at least the threshold. Dots: thresholds of derived sources."
    )
    table = Table.of("figure_yield", "", ("classifier and source", "threshold", "documents", "tokens"), rows)
    return Figure("yield", "Documents and tokens that each threshold finds", caption, tuple(panels), legend, table)
