"""Aligned columns of text."""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.edges.redaction import printable_line


def text_table(header: Sequence[str], body: Sequence[Sequence[str]], *, text_columns: int, rule: bool = False) -> str:
    """Align cells: the first `text_columns` columns left, the others right; `rule` draws a line below the header.

    A cell stays on its line and in its column, whatever characters are in it.
    """
    body = [[printable_line(cell) for cell in row] for row in body]
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
    lines = []
    for row in (header, *([["-" * width for width in widths]] if rule else []), *body):
        cells = [
            cell.ljust(w) if i < text_columns else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
