"""Write the report: one self-contained HTML file, built from records alone, its twins in Markdown and JSON, its figures as SVG.

In: `ReportContents`. Out: an HTML file with inline styles and inline SVG, without scripts or external resources; a
Content-Security-Policy in the page forbids both. Guarantee: the same contents give the same bytes, and all text from outside
is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cpt_ray.edges.redaction import redact_text
from cpt_ray.edges.storage import write_atomic
from cpt_ray.report.blocks import Figure, Section
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.current import FIGURES, figures_of, report_fingerprint, twins_of
from cpt_ray.report.figures.files import render_svg
from cpt_ray.report.figures.svg import MARKERS
from cpt_ray.report.index import Index
from cpt_ray.report.sections import Opening, opening, sections
from cpt_ray.report.tables.results import MOST_BESIDE, MOST_TABLES
from cpt_ray.report.twins import render_json, render_markdown

TEMPLATES = Path(__file__).parent / "templates"
OPEN_ROWS, MOST_ROWS = 40, 400
"""Rows of a table that are open, and that the page has at all; the JSON twin has the rest."""


def write_report(path: Path, contents: ReportContents) -> None:
    """Write the page for `contents` to `path`, its twins and figures next to it; `report.current` tells if that is needed.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    index = Index(contents)
    first, parts = opening(index), sections(index)
    markdown, data = twins_of(path)
    write_atomic(markdown, render_markdown(contents, first, parts, path.name, data.name))
    write_atomic(data, render_json(contents, first, parts))
    _write_figures(path, [*first.figures, *(block for part in parts for block in part.blocks if isinstance(block, Figure))])
    # Last: a page that is there has its twins.
    write_atomic(path, _render(contents, first, parts, (markdown.name, data.name)))


def _write_figures(page: Path, figures: Sequence[Figure]) -> None:
    folder = page.parent / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{figure.name}.svg": render_svg(figure) for figure in figures}
    for path, text in files.items():
        write_atomic(path, text)
    for path in set(figures_of(page)) - set(files):
        path.unlink()


def render_report(contents: ReportContents) -> str:
    """Render the page as text."""
    index = Index(contents)
    return _render(contents, opening(index), sections(index), ("report.md", "report.json"))


def _render(contents: ReportContents, first: Opening, parts: list[Section], twins: tuple[str, str]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page: str = environment.get_template("page.html.j2").render(
        c=contents,
        first=first,
        sections=parts,
        twins=twins,
        config_yaml=redact_text(contents.config_yaml),
        fingerprint=report_fingerprint(contents),
        markers=MARKERS,
        most_tables=MOST_TABLES,
        most_beside=MOST_BESIDE,
        open_rows=OPEN_ROWS,
        most_rows=MOST_ROWS,
    )
    # The macros at the top of the template leave blank lines before the doctype.
    return page.lstrip()
