"""Parse the plain-text tables that the command line prints."""

import itertools
import re


def table_of(text: str, first: str) -> list[dict[str, str]]:
    """The rows of a plain-text table below the header that begins with `first`."""
    lines = text.splitlines()
    top = next(number for number, line in enumerate(lines) if line.split("  ")[0] == first)
    names = re.split(r"\s{2,}", lines[top].strip())
    rows = itertools.takewhile(
        lambda cells: len(cells) == len(names), (re.split(r"\s{2,}", x.strip()) for x in lines[top + 1 :])
    )
    return [dict(zip(names, cells, strict=True)) for cells in rows]
