"""What the rows of a CSV file look like: how a line inside a quoted field is known to be a row that a stray quote swallowed.

Part of stage `read`; runs in a worker. Memory: a few values per column, learned from the first rows of a file.

Two kinds of evidence. Where the quoted field leaves a row of another width than the header, three or more lines that are all as
wide as the header, with a column of single words, are rows whatever the file looks like. A row that fits may well hold a table:
its lines, and fewer than three, must look like the rows of this very file: a number that counts on, an id with the same prefix
or of the same length, a word out of the few that a column has. Prose, verse and decimal commas have none of these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_FEWEST_LINES = 3
_MOST_LINES_JUDGED = 1000
_LIKE_ROWS = 0.9
_FEWEST_LEARNED = 5
_MOST_LEARNED = 1000
_MOST_WORDS = 8
_LONG_ID = 8
_NUMBERED = re.compile(r"(.*?)(\d{1,18})")


class RowShapes:
    """The shapes of a file's rows.

    Args:
        header: The names of its columns.
        delimiter: What separates cells.
        text: The column of free text, which tells nothing.
    """

    def __init__(self, header: Sequence[str], delimiter: str, text: str) -> None:
        self._width, self._delimiter = len(header), delimiter
        self._columns = {at: _Column() for at, name in enumerate(header) if name != text}
        self._learned = 0

    def learn(self, row: Sequence[str]) -> None:
        """Take note of a row; after the first thousand, nothing changes."""
        if self._learned < _MOST_LEARNED:
            self._learned += 1
            for at, column in self._columns.items():
                column.learn(row[at])

    def holds_rows(self, lines: Sequence[str], *, fits: bool) -> bool:
        """Whether the lines of a row, which its quoted field holds together, are rows of their own but for the first.

        Args:
            lines: The lines, as they stand in the file.
            fits: Whether the row has as many fields as the header.
        """
        if self._width < 2 or len(lines) < 2:
            return False
        return (not fits and _are_rows(lines[1:-1], self._width, self._delimiter)) or self._are_like_mine(lines)

    def _are_like_mine(self, lines: Sequence[str]) -> bool:
        if self._learned < _FEWEST_LEARNED or not self._columns:
            return False
        before = self._cells(lines[0])
        for line in lines[1:_MOST_LINES_JUDGED]:
            cells = self._cells(line)
            if len(cells) != self._width or any(cell[:1].isspace() for cell in cells[1:]):
                return False
            found = [column.likeness(cells[at], before[at] if at < len(before) else "") for at, column in self._columns.items()]
            if None in found or not any(found):
                return False
            before = cells
        return True

    def _cells(self, line: str) -> list[str]:
        return line.rstrip("\r\n").replace('"', "").split(self._delimiter)


class _Column:
    """The cells of a column that is not free text."""

    def __init__(self) -> None:
        self._count = 0
        self._single = True
        self._words: set[str] = set()
        self._lengths: set[int] = set()
        self._prefixes: set[str | None] = set()
        self._number = self._step = 0
        self._ascends = True

    def learn(self, cell: str) -> None:
        self._count += 1
        self._single &= bool(cell) and not any(map(str.isspace, cell))
        if len(self._words) <= _MOST_WORDS:
            self._words.add(cell)
        self._lengths.add(len(cell))
        prefix, number = _numbered(cell)
        if len(self._prefixes) <= _MOST_WORDS:
            self._prefixes.add(prefix)
        if self._count > 1:
            self._step = max(self._step, number - self._number)
            self._ascends &= number > self._number
        self._number = number

    def likeness(self, cell: str, before: str) -> bool | None:
        """Whether a cell shows that its line is a row of the file; None if it shows that it is none."""
        if not self._single:
            return False
        if not cell or any(map(str.isspace, cell)):
            return None
        prefix, number = _numbered(cell)
        if None not in self._prefixes and len(self._prefixes) <= _MOST_WORDS:
            if prefix not in self._prefixes:
                return None
            if all(map(_has_letter, self._prefixes)):
                return True
            if self._ascends:
                return 0 < number - _numbered(before)[1] <= self._step
        if len(self._words) <= _MOST_WORDS and self._count > 2 * len(self._words):
            return cell in self._words and not cell.isdigit()
        return self._lengths == {len(cell)} and len(cell) >= _LONG_ID


def _numbered(cell: str) -> tuple[str | None, int]:
    """What stands before the number at the end of a cell, and the number; None and 0 if it ends otherwise."""
    found = _NUMBERED.fullmatch(cell)
    return (found[1], int(found[2])) if found else (None, 0)


def _has_letter(text: str | None) -> bool:
    return any(map(str.isalpha, text or ""))


def _are_rows(lines: Sequence[str], width: int, delimiter: str) -> bool:
    """Whether lines inside a quoted field are rows: as wide as the header, with a column of single words such as an id.

    Lines of prose or verse may happen to hold as many commas; they do not have a column without spaces as well.
    """
    judged = lines[:_MOST_LINES_JUDGED]
    if len(judged) < _FEWEST_LINES:
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
