"""What a page is made of: tables, figures and sections of them, as data; HTML, Markdown and JSON are three ways to show it.

Guarantee: a cell that shows a number also holds it as it was, for the JSON twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from markupsafe import Markup

from cpt_ray.report.wording import integer, number

Raw = str | int | float | bool | None | dict[str, object]
Tone = Literal["", "good", "bad"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What it shows.
        small: Smaller lines below.
        mark: An arrow and its word, next to the text.
        tone: Color of the mark, or of the text if there is none; the words say the same.
        strong: Whether it is what the row is about.
        raw: The value as it was, for JSON; None stands for `text`.
    """

    text: str
    small: tuple[str, ...] = ()
    mark: str = ""
    tone: Tone = ""
    strong: bool = False
    raw: Raw = None

    @classmethod
    def of(cls, value: Cell | str | float | None) -> Cell:
        """A cell of plain text, of a number, or a dash for None."""
        match value:
            case Cell():
                return value
            case bool():
                return cls("yes" if value else "no", raw=value)
            case int():
                return cls(integer(value), raw=value)
            case float():
                return cls(number(value), raw=value)
            case None:
                return cls(number(None), raw="")
        return cls(value)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its heading and notes.

    Attributes:
        name: Key in the JSON twin, unique on the page.
        title: Heading; empty where the section's or the figure's says it.
        header: Names of the columns; the first `words` hold words, the others numbers.
        answer: What the table says, in a sentence.
        lead: What a reader must know before.
        notes: What goes with it.
        fold: Whether it is closed at first, under its title.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1
    answer: str = ""
    lead: str = ""
    notes: tuple[str, ...] = ()
    fold: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        header: Sequence[str],
        rows: Iterable[Sequence[Cell | str | float | None]],
        *,
        words: int = 1,
        lead: str = "",
        notes: Iterable[str] = (),
        fold: bool = False,
    ) -> Self:
        """A table of plain values."""
        cells = tuple(tuple(Cell.of(value) for value in row) for row in rows)
        return cls(name, title, tuple(header), cells, words=words, lead=lead, notes=tuple(notes), fold=fold)


@dataclass(frozen=True, slots=True)
class Style:
    """How a series looks: a color of the page's palette by number, a dash, a marker."""

    color: str
    dash: str = ""
    marker: str = "o"


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A swatch and its label."""

    label: str
    style: Style
    hollow: bool = False
    line: bool = True
    mark: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure: one or more panels of one size, their legend, and the drawn numbers as a table.

    Attributes:
        name: Key, unique on the page.
        alt: What it shows, for those who do not see it.
        panels: SVG.
        said: What of the records is not drawn; empty if all is.
        height: Of a panel.
    """

    name: str
    alt: str
    caption: str
    panels: tuple[Markup, ...]
    legend: tuple[LegendEntry, ...]
    table: Table
    said: str = ""
    title: str = ""
    height: int = 320


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; one that is folded is closed at first."""

    name: str
    title: str
    lead: str
    blocks: tuple[Table | Figure | str, ...] = field(default=())
    folded: bool = False

    @property
    def tables(self) -> list[Table]:
        """All its tables, those of figures included."""
        found = [block.table if isinstance(block, Figure) else block for block in self.blocks if not isinstance(block, str)]
        return [table for table in found if table.rows]
