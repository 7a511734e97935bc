"""Read the rows of CSV files: comma, semicolon, tab or bar, with fields in quotes that may hold newlines.

Part of stage `read`; runs in a worker. Memory: one row; behind a stray quote, the lines up to the next.

Guarantee: a stray quote costs its own row. The lines that it would swallow are read as rows: three or more where what it makes
of them is no row, and where it could pass for one if they look like the rows of the file (`csv_shapes`).
Rows that ran into one another between members of a compressed file are read as rows.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.documents import Rejected, from_record, missing_columns
from cpt_ray.data.read.plan import ReadPart
from cpt_ray.data.read.tabular.csv_shapes import RowShapes
from cpt_ray.edges.source_files import Unpacked, plain_name
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_LONGEST_FIELD = 1 << 30
_DELIMITERS = (",", ";", "\t", "|")
_SAID = re.compile(r'"?sep=([^\w\s"]|\t)"?[\r\n]*', re.IGNORECASE)
_TABBED = re.compile(r"\.(tsv|tab)(\.|$)", re.IGNORECASE)


def read_csv(stream: Any, part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the rows below a header."""
    csv.field_size_limit(_LONGEST_FIELD)
    lines = _Lines(stream)
    header, delimiter = _header(lines, part, source)
    if not header:
        return
    problem = missing_columns(header, source, part.path)
    if problem is not None:
        raise DataError(f"{part.path}: {problem}", fix=f"set the field names of source {source.name} to existing columns")
    yield from _rows(lines, header, delimiter, part, source)


def _rows(
    lines: _Lines, header: list[str], delimiter: str, part: ReadPart, source: SourceConfig
) -> Iterator[Document | Rejected]:
    shapes = RowShapes(header, delimiter, source.text_field)
    stray = ""
    while True:
        lines.taken.clear()
        first = lines.number + 1
        problem = None
        try:
            row = next(csv.reader(lines, strict=True, delimiter=delimiter), None)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataError(
                    f"{part.path}, line {first}: the quote opened here is never closed{stray}",
                    fix=f"repair the file, or leave it out of source {source.name}",
                ) from error
            row, problem = [], f"not CSV: {error}"
        if row is None:
            return
        if not row and problem is None:
            continue
        last = lines.number
        if len(lines.taken) > 1 and (problem is not None or shapes.holds_rows(lines.taken, fits=len(row) == len(header))):
            problem = problem or "a field holds lines that are rows of their own"
            problem = f"{problem}; the quote opened in line {first} ends in line {last}, and the lines between are read as rows"
            lines.give_back()
            stray = f"; neither is the one in line {first}, which that in line {last} would have ended"
        elif problem is None and len(row) == len(header) and row != header:
            shapes.learn(row)
            yield _placed(_document(row, header, lines.taken, part, source), f"line {last}")
            continue
        pieces = _apart(lines, header, delimiter)
        if pieces:
            yield from (_placed(_document(row, header, [raw], part, source), f"line {first}") for row, raw in pieces)
            continue
        if problem is None:
            counts = f"{len(row)} columns, but the header has {len(header)} columns"
            problem = counts if row != header else "the header again: files were appended to one another"
        yield _placed(Rejected.bad("bad_row", problem, "".join(lines.taken)), f"line {first}")


def _document(row: list[str], header: list[str], raw: list[str], part: ReadPart, source: SourceConfig) -> Document | Rejected:
    return from_record(dict(zip(header, row, strict=True)), source, "".join(raw), part.path)


def _placed(item: Document | Rejected, place: str) -> Document | Rejected:
    return replace(item, place=place) if isinstance(item, Rejected) else item


def _apart(lines: _Lines, header: list[str], delimiter: str) -> list[tuple[list[str], str]]:
    """The rows of a line that ran into one another where a member of a compressed file ended without a newline.

    Members may end anywhere (those of bgzip do), so only a line that is no row is cut, and only if the pieces are rows.
    """
    if len(lines.taken) != 1:
        return []
    pieces = lines.cut_at_seams()
    if len(pieces) < 2:
        return []
    found = []
    for piece in pieces:
        try:
            rows = list(csv.reader([piece.removeprefix("\ufeff")], strict=True, delimiter=delimiter))
        except csv.Error:
            return []
        if len(rows) != 1 or len(rows[0]) != len(header):
            return []
        found.append((rows[0], piece))
    return [(row, piece) for row, piece in found if row != header]


def header_of(stream: Any, part: ReadPart, source: SourceConfig) -> list[str]:
    """The names in the first line of a file; none if it is empty.

    Raises:
        DataError: If the line is not CSV.
    """
    return _header(_Lines(stream), part, source)[0]


def _header(lines: _Lines, part: ReadPart, source: SourceConfig) -> tuple[list[str], str]:
    """The header and its delimiter: the one that gives the text column, else the one that gives the most columns."""
    read: dict[str, list[str]] = {}
    problem: csv.Error | None = None
    first = next(lines, "")
    if (said := _SAID.fullmatch(first)) is not None:  # Excel's own line in front of the header
        lines.taken.clear()
        return next(csv.reader(lines, strict=True, delimiter=said[1]), []), said[1]
    lines.give_back(keep=0)
    for delimiter in ("\t",) if _TABBED.search(plain_name(part.path)) else _DELIMITERS:
        lines.taken.clear()
        try:
            read[delimiter] = next(csv.reader(lines, strict=True, delimiter=delimiter), [])
        except csv.Error as error:
            problem = error
            if "expected after" not in str(error):  # else names in quotes that another delimiter separates
                read.clear()
                break
        lines.give_back(keep=0)
    if not read:
        raise DataError(
            f"{part.path}, line 1: the header is not CSV: {problem}",
            fix=f"repair the file, or leave it out of source {source.name}",
        ) from problem
    best = max(read, key=lambda mark: (source.text_field in read[mark], len(read[mark])))
    lines.taken.clear()
    return next(csv.reader(lines, strict=True, delimiter=best), []), best


class _Lines:
    """The lines of a stream, and those that the current row has consumed."""

    def __init__(self, stream: Any) -> None:
        self._seams: deque[int] | None = stream.seams if isinstance(stream, Unpacked) else None
        self._position = len(codecs.BOM_UTF8) if stream.peek(3).startswith(codecs.BOM_UTF8) else 0
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
        if self._seams is not None:
            self._position += len(_bytes(line))
        return line

    def give_back(self, keep: int = 1) -> None:
        """Have the lines of the current row, but for the first `keep`, read again."""
        back = self.taken[keep:]
        self._again.extendleft(reversed(back))
        self.number -= len(back)
        if self._seams is not None:
            self._position -= sum(len(_bytes(line)) for line in back)
        del self.taken[keep:]

    def cut_at_seams(self) -> list[str]:
        """The current row in pieces, cut where members of a compressed file meet."""
        data = _bytes("".join(self.taken))
        start = self._position - len(data)
        cuts = [0]
        while self._seams and self._seams[0] < self._position:
            seam = self._seams.popleft() - start
            cuts += [seam] if seam > 0 else []
        return [_text(data[at:end]) for at, end in itertools.pairwise([*cuts, len(data)])]


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
