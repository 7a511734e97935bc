"""Figures as SVG files, for slides, papers and MLflow: the page's panels side by side, with their legend and caption below.

In: a `Figure`. Out: a file that needs nothing else: the page's colors are in it, and follow the viewer's light or dark setting.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from markupsafe import escape

from cpt_ray.report.blocks import Figure, LegendEntry
from cpt_ray.report.figures.svg import MARKERS, WIDTH

_STYLE = (Path(__file__).parents[1] / "templates" / "figure.css").read_text(encoding="utf-8")
_A_ROW = 3
_TITLE, _LINE = 26, 20
_CHARACTER = 6.4
"""Mean width of a character of the captions' font, in pixels."""


def render_svg(figure: Figure) -> str:
    """A figure as a file."""
    in_row = min(_A_ROW, len(figure.panels))
    width = in_row * WIDTH
    rows = -(-len(figure.panels) // in_row)
    caption = textwrap.wrap(f"{figure.caption} {figure.said}".strip(), int((width - 16) / _CHARACTER))
    legend_top = _TITLE + rows * figure.height + 8
    caption_top = legend_top + _LINE * len(figure.legend) + 4
    height = caption_top + _LINE * len(caption) + 8
    parts = [_text(8, 17, figure.title or figure.alt, "t")]
    for place, panel in enumerate(figure.panels):
        at = f'x="{place % in_row * WIDTH}" y="{_TITLE + place // in_row * figure.height}"'
        at += f' width="{WIDTH}" height="{figure.height}"'
        parts.append(str(panel).replace("<svg ", f"<svg {at} ", 1))  # not Markup's, which escapes
    parts += [_entry(entry, legend_top + _LINE * place) for place, entry in enumerate(figure.legend)]
    parts += [_text(8, caption_top + _LINE * place + 13, line, "f") for place, line in enumerate(caption)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(figure.alt)}">'
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="var(--bg)"/>{"".join(parts)}</svg>\n'
    )


def _entry(entry: LegendEntry, top: int) -> str:
    parts = []
    if entry.line:
        dash = f' stroke-dasharray="{escape(entry.style.dash)}"' if entry.style.dash else ""
        parts.append(f'<path class="l" d="M8 {top + 9}h30"{dash}/>')
    if entry.mark:
        kind = "h" if entry.hollow else "m"
        parts.append(f'<path class="{kind}" transform="translate(23 {top + 9})" d="{MARKERS[entry.style.marker]}"/>')
    return f'<g class="{escape(entry.style.color)}">{"".join(parts)}</g>{_text(46, top + 13, entry.label, "")}'


def _text(x: int, y: int, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'
