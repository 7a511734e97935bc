"""The page's part on domain filters: the yield curve, and what arms share.

In: `DomainFindings`. Out: SVG, and rows for the template `domains.html.j2`.
"""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cpt_ray.records import DomainFindings, Shared, YieldRecord
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.figures import draw_figure
from cpt_ray.report.series import DASHES, OKABE_ITO, Style
from cpt_ray.report.wording import count


class OverlapRow(NamedTuple):
    """An arm, what it can draw, and what each other arm shares with it."""

    arm: str
    documents: int
    tokens: int
    shared: tuple[Shared, ...]


def overlap_rows(found: DomainFindings) -> list[OverlapRow]:
    """One row per arm; none if no source is derived, where arms share what their mixtures name."""
    if found.arms is None or not found.selections:
        return []
    return [
        OverlapRow(arm, documents, found.arms.tokens[arm], tuple(one for one in found.arms.shared if one.arm == arm))
        for arm, documents in found.arms.documents.items()
    ]


def yield_label(found: YieldRecord) -> str:
    """The name of a curve."""
    return f"{found.classifier} on {found.source}"


def yield_styles() -> list[Style]:
    """The looks of curves, in order."""
    return [Style(color, dash) for dash in ((), DASHES[1]) for color in OKABE_ITO]


def yield_figure(contents: ReportContents, *, narrow: bool = False) -> str | None:
    """Documents and tokens of a source from each threshold on, with the thresholds in use; None without a classifier."""
    yields = contents.domains.yields
    if not yields:
        return None

    def draw(figure: Figure) -> None:
        shape = (2, 1) if narrow else (1, 2)
        for number, measure in enumerate(("documents", "tokens"), start=1):
            axes = figure.add_subplot(*shape, number)
            axes.set_title(f"{measure} found")
            for found, style in zip(yields, yield_styles(), strict=False):
                values = getattr(found, measure)
                axes.plot(found.thresholds, values, color=style.color, linewidth=1.5, dashes=style.dash or (None, None))
                for one in found.used:
                    axes.plot([one.threshold], [getattr(one, measure)], marker="o", color=style.color, markersize=5)
            axes.set_xlabel("threshold on the probability")
            # Most of a general source scores near 0: on a linear axis the domain would be a line on the floor.
            axes.set_yscale("symlog", linthresh=1)
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))

    return draw_figure("yield", narrow, (2.8, 5.2), draw)
