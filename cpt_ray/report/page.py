"""Write the report: one self-contained HTML file, built from records alone.

In: `ReportContents`. Out: an HTML file with inline styles and inline SVG, without scripts or external resources; a
Content-Security-Policy in the page forbids both. Guarantee: the same contents give the same bytes, and all text from outside
is escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cpt_ray.edges.redaction import redact_text
from cpt_ray.edges.storage import write_atomic
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.current import report_fingerprint
from cpt_ray.report.domains import overlap_rows, yield_figure, yield_label, yield_styles
from cpt_ray.report.figures import KEPT, forgetting_figure, loss_figure, profile_figure, scaling_figure, watched_figure
from cpt_ray.report.series import INK, Style, curves, loss_lines, sets_of, thinned_by, trades, watched_lines
from cpt_ray.report.tables import (
    exam_deltas,
    exam_labels,
    exam_rows,
    funnel_rows,
    held_out_deltas,
    kernels,
    ledgers,
    mfu_bases,
    score_rows,
    tiles,
    warning_rows,
    watch_rows,
)
from cpt_ray.report.text.answers import answer_tables, refusals
from cpt_ray.report.text.pairing import pairings
from cpt_ray.report.wording import FILTERS

SECTIONS = (
    "1. The funnel",
    "2. Loss curves",
    "3. Token-scaling curves",
    "4. Gain against forgetting",
    "5. What more tokens would buy",
    "6. Provenance",
)

MARKER_PATHS = {
    "o": "M15 2.5a3.5 3.5 0 1 0 .01 0z",
    "^": "M15 2l4 7h-8z",
    "D": "M15 2l4 4-4 4-4-4z",
    "v": "M15 10l-4-7h8z",
    "s": "M11.7 2.7h6.6v6.6h-6.6z",
    "*": "M15 1.5l1.2 3.1 3.3.2-2.6 2.1.9 3.3-2.8-1.9-2.8 1.9.9-3.3-2.6-2.1 3.3-.2z",
    "P": "M13.7 2h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
    "X": "M12.5 2l2.5 2.5 2.5-2.5 1.5 1.5-2.5 2.5 2.5 2.5-1.5 1.5-2.5-2.5-2.5 2.5-1.5-1.5 2.5-2.5-2.5-2.5z",
}


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A swatch and its label."""

    label: str
    style: Style
    hollow: bool = False
    line: bool = True
    mark: bool = True


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A figure at both widths, and its legend."""

    wide: Markup
    narrow: Markup
    legend: tuple[LegendEntry, ...]


PROFILE_LEGEND = (
    LegendEntry("as read", Style(INK), mark=False),
    LegendEntry("as kept after cleaning and duplicate removal", Style(KEPT, marker="s"), line=False),
)


def write_report(path: Path, contents: ReportContents) -> None:
    """Write the page for `contents` to `path` atomically; `report.current` tells whether that is needed.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    write_atomic(path, render_report(contents))


def render_report(contents: ReportContents) -> str:
    """Render the page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    page: str = environment.get_template("page.html.j2").render(
        c=contents,
        fingerprint=report_fingerprint(contents),
        config_yaml=redact_text(contents.config_yaml),
        sections=SECTIONS,
        tiles=tiles(contents),
        funnel=funnel_rows(contents),
        ledgers=ledgers(contents),
        figures={
            "yield": _figure(contents, yield_figure, _yield_legend(contents)),
            "profile": _figure(contents, profile_figure, PROFILE_LEGEND),
            "loss": _figure(contents, loss_figure, _loss_legend(contents)),
            "watched": _figure(contents, watched_figure, _watched_legend(contents)),
            "scaling": _figure(contents, scaling_figure, _scaling_legend(contents)),
            "forgetting": _figure(contents, forgetting_figure, _forgetting_legend(contents)),
        },
        marker_paths=MARKER_PATHS,
        thinned_by=thinned_by(contents),
        smoothed=any(line.smooth != line.loss for line in loss_lines(contents)),
        has_hollow=any(not point.annealed for point in contents.comparison.points),
        deltas=held_out_deltas(contents),
        exam_deltas=exam_deltas(contents),
        exam_labels=exam_labels(contents.evals),
        exams=exam_rows(contents),
        scores=score_rows(contents),
        one_tokenizer=contents.one_tokenizer,
        watch=watch_rows(contents),
        kernels=kernels(contents),
        mfu_bases=mfu_bases(contents),
        pairings=pairings(contents.runs),
        dropout=list(dict.fromkeys(run.training.last.dropout or "none" for run in contents.runs if run.training)),
        answer_tables=answer_tables(contents.comparison.answers),
        refused=refusals(contents.comparison.answers),
        overlaps=overlap_rows(contents.domains),
        warnings=warning_rows(contents),
        merges=[run for run in contents.runs if run.merge is not None],
        self_tests=[
            (run.run, run.training.last.self_test) for run in contents.runs if run.training and run.training.last.self_test
        ],
    )
    # The macros at the top of the template leave blank lines before the doctype.
    return page.lstrip()


def _figure(contents: ReportContents, draw: Callable[..., str | None], legend: tuple[LegendEntry, ...]) -> PageFigure | None:
    wide, narrow = draw(contents), draw(contents, narrow=True)
    if wide is None or narrow is None:
        return None
    # Safe as Markup: our own SVG, in which matplotlib has escaped all text.
    return PageFigure(Markup(wide), Markup(narrow), legend)  # noqa: S704


def _loss_legend(contents: ReportContents) -> tuple[LegendEntry, ...]:
    return tuple(LegendEntry(line.label, line.style, mark=len(line.tokens) < 3) for line in loss_lines(contents))


def _watched_legend(contents: ReportContents) -> tuple[LegendEntry, ...]:
    entries = {
        line.label: LegendEntry(line.label, line.style, hollow=True)
        for lines in watched_lines(contents).values()
        for line in lines
    }
    return tuple(entries.values())


def _scaling_legend(contents: ReportContents) -> tuple[LegendEntry, ...]:
    entries: dict[str, LegendEntry] = {}
    hollow = False
    for set_name, _ in sets_of(contents.comparison.points):
        for curve in curves(contents, set_name):
            entries.setdefault(curve.label, LegendEntry(curve.label, curve.style))
            hollow = hollow or bool(curve.hollow)
    if any(point.arm is None for point in contents.comparison.points):
        entries["base"] = LegendEntry("base, at 0 tokens", Style(INK), line=False)
    if hollow:
        entries["hollow"] = LegendEntry("hollow: not annealed, never a budget", Style("#595959"), hollow=True, line=False)
    return tuple(entries.values())


def _yield_legend(contents: ReportContents) -> tuple[LegendEntry, ...]:
    return tuple(
        LegendEntry(yield_label(found), style, mark=False)
        for found, style in zip(contents.domains.yields, yield_styles(), strict=False)
    )


def _forgetting_legend(contents: ReportContents) -> tuple[LegendEntry, ...]:
    items = [item for of_pair in trades(contents).values() for item in of_pair]
    entries = {item.label: LegendEntry(item.label, item.style, line=not item.made_of) for item in items}
    return tuple(entries.values())
