"""The page's twins: Markdown to send on or to diff, JSON with the data of every table and figure.

Guarantee: both are made of the same blocks as the page, so they cannot differ from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from cpt_ray.report.blocks import Cell, Section, Table
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.sections import Opening
from cpt_ray.report.wording import number

_MOST_TABLES, _MOST_ROWS = 6, 30
_IN_MARKDOWN = ("sizes", "next")
"""Sections whose tables stand in the Markdown twin."""


def render_markdown(contents: ReportContents, first: Opening, sections: Sequence[Section], page: str, data: str) -> str:
    """Headline, tables of results, decisions, links."""
    lines = [f"# {_plain(contents.study)}", "", f"**{_plain(first.headline)}**", ""]
    lines += [f"- {_plain(sentence)}" for sentence in first.others[:_MOST_TABLES]]
    lines += [f"**{_plain(label)}**" for label in contents.labels]
    lines += ["", f"{_plain(first.facts)}."]
    for table in first.results[:_MOST_TABLES]:
        lines += _table(table)
    lines += ["", *(_plain(sentence) for sentence in first.legend)]
    for section in sections:
        if section.name in _IN_MARKDOWN:
            found = [block for block in section.blocks if isinstance(block, Table | str)]
            lines += ["", f"## {_plain(section.title)}"] if found else []
            for block in found:
                lines += _table(block) if isinstance(block, Table) else ["", _plain(block)]
    lines += [
        "",
        f"The [page]({page}) with figures, the [data of every table]({data}), and [all differences](comparison.json).",
    ]
    return "\n".join(lines) + "\n"


def render_json(contents: ReportContents, first: Opening, sections: Sequence[Section]) -> str:
    """Everything that the page shows, as data: values as they were, not as they are shown."""
    tables = [*first.results, *(figure.table for figure in first.figures), *(t for section in sections for t in section.tables)]
    comparison = contents.comparison
    found = {
        "study": contents.study,
        "created": contents.created,
        "headline": comparison.headline,
        "verdict": comparison.verdict,
        "notes": list(comparison.notes),
        "labels": list(contents.labels),
        "tokens_seen": comparison.tokens_seen,
        "tokens_paid": comparison.tokens_paid,
        "names": list(first.legend),
        "tables": {
            table.name: {
                "title": table.title,
                "answer": table.answer,
                "header": list(table.header),
                "rows": [[_raw(cell) for cell in row] for row in table.rows],
            }
            for table in tables
        },
    }
    # In one line: with an indent json is encoded in Python, in ten times the time.
    return json.dumps(found, ensure_ascii=False, allow_nan=False) + "\n"


def _raw(cell: Cell) -> object:
    if cell.raw is None and cell.text == number(None):
        return None
    if cell.raw is None:
        return "; ".join(filter(None, (cell.text, *cell.small)))
    if isinstance(cell.raw, dict):
        return {key: _finite(value) for key, value in cell.raw.items()}
    return _finite(cell.raw) if cell.raw != "" else None


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(table: Table) -> list[str]:
    lines = ["", f"### {_plain(table.title)}"] if table.title else []
    lines += ["", f"**{_plain(table.answer)}**"] if table.answer else []
    if table.rows:
        lines += ["", _row(table.header), _row(["---"] * len(table.header))]
        lines += [_row([_cell(cell) for cell in row]) for row in table.rows[:_MOST_ROWS]]
        left = len(table.rows) - _MOST_ROWS
        lines += ["", f"{left} more rows are in the data."] if left > 0 else []
    return [*lines, "", *(_plain(note) for note in table.notes)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _cell(cell: Cell) -> str:
    parts = [" ".join(filter(None, (cell.text, cell.mark))), *cell.small]
    return ", ".join(filter(None, parts))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = " ".join(text.split())
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"&#{ord(sign)};" if sign in "<>" else f"\\{sign}")
    return text
