"""Read the rows of CSV files: comma, semicolon, tab or bar, with fields in quotes that may hold newlines.

Part of stage `read`; runs in a worker. Memory: one row; behind a stray quote, the lines up to the next.

Guarantee: a stray quote costs its own row. The lines that it would swallow are read as rows, whether or not what it makes of
them could pass for a field.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.documents import Rejected, from_record, missing_columns
from cpt_ray.data.read.plan import ReadPart
from cpt_ray.edges.source_files import plain_name
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_LONGEST_FIELD = 1 << 30
_DELIMITERS = (",", ";", "\t", "|")
_TABBED = re.compile(r"\.(tsv|tab)(\.|$)", re.IGNORECASE)
_FEWEST_LINES = 3
_MOST_LINES_JUDGED = 1000
_LIKE_ROWS = 0.9


def read_csv(stream: Any, part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the rows below a header."""
    csv.field_size_limit(_LONGEST_FIELD)
    lines = _Lines(stream)
    try:
        header, delimiter = _header(lines, part, source)
    except csv.Error as error:
        raise DataError(
            f"{part.path}, line 1: the header is not CSV: {error}",
            fix=f"repair the file, or leave it out of source {source.name}",
        ) from error
    if not header:
        return
    problem = missing_columns(header, source, part.path)
    if problem is not None:
        raise DataError(f"{part.path}: {problem}", fix=f"set the field names of source {source.name} to existing columns")
    stray = ""
    while True:
        lines.taken.clear()
        first = lines.number + 1
        try:
            row = next(csv.reader(lines, strict=True, delimiter=delimiter), None)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataError(
                    f"{part.path}, line {first}: the quote opened here is never closed{stray}",
                    fix=f"repair the file, or leave it out of source {source.name}",
                ) from error
            row, problem = [], f"not CSV: {error}"
        else:
            if row is None:
                return
            if not row:
                continue
            problem = _row_problem(row, header, lines.taken, delimiter)
        if problem is None:
            item = from_record(dict(zip(header, row, strict=True)), source, "".join(lines.taken), part.path)
            yield replace(item, place=f"line {lines.number}") if isinstance(item, Rejected) else item
            continue
        last = lines.number
        if len(lines.taken) > 1 and not problem.endswith("columns"):
            problem = f"{problem}; the quote opened in line {first} ends in line {last}, and the lines between are read as rows"
            lines.give_back()
            stray = f"; neither is the one in line {first}, which that in line {last} would have ended"
        yield replace(Rejected.bad("bad_row", problem, "".join(lines.taken)), place=f"line {first}")


def _header(lines: _Lines, part: ReadPart, source: SourceConfig) -> tuple[list[str], str]:
    """The header and its delimiter: the one that gives the text column, else the one that gives the most columns."""
    read: dict[str, list[str]] = {}
    for delimiter in ("\t",) if _TABBED.search(plain_name(part.path)) else _DELIMITERS:
        lines.taken.clear()
        read[delimiter] = next(csv.reader(lines, strict=True, delimiter=delimiter), [])
        lines.give_back(keep=0)
    best = max(read, key=lambda mark: (source.text_field in read[mark], len(read[mark])))
    lines.taken.clear()
    return next(csv.reader(lines, strict=True, delimiter=best), []), best


def _row_problem(row: list[str], header: list[str], taken: list[str], delimiter: str) -> str | None:
    if len(taken) > _FEWEST_LINES and _are_rows(taken[1:-1], len(header), delimiter):
        return "a field holds lines that are rows of their own"
    if len(row) != len(header):
        return f"{len(row)} columns, but the header has {len(header)} columns"
    return None


def _are_rows(lines: list[str], width: int, delimiter: str) -> bool:
    """Whether lines inside a quoted field are rows: as wide as the header, with a column of single words such as an id.

    Lines of prose or verse may happen to hold as many commas; they do not have a column without spaces as well.
    """
    judged = lines[:_MOST_LINES_JUDGED]
    if width < 2 or len(judged) < _FEWEST_LINES:
        return False
    rows = []
    for line in judged:
        cells = line.rstrip("\r\n").split(delimiter)
        # Prose has a space behind its commas; a row has none.
        if len(cells) == width and '"' not in line and not any(cell[:1].isspace() for cell in cells[1:]):
            rows.append(cells)
    if len(rows) < _LIKE_ROWS * len(judged):
        return False
    single = [sum(bool(cells[at]) and not any(map(str.isspace, cells[at])) for cells in rows) for at in range(width)]
    return max(single) >= _LIKE_ROWS * len(rows)


class _Lines:
    """The lines of a stream, and those that the current row has consumed."""

    def __init__(self, stream: Any) -> None:
        # Bytes that are not UTF-8 become lone surrogates, which `make_document` rejects.
        self._text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._again: deque[str] = deque()
        self.number = 0
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self.number += 1
        self.taken.append(line)
        return line

    def give_back(self, keep: int = 1) -> None:
        """Have the lines of the current row, but for the first `keep`, read again."""
        back = self.taken[keep:]
        self._again.extendleft(reversed(back))
        self.number -= len(back)
        del self.taken[keep:]
