"""Normalize the text of a document: repair mojibake, compose to NFC, drop control characters, trim lines.

Flow: part of stage `clean`. Text in, text out. Memory: the current document. Only lines with non-ASCII characters go through
ftfy (Speer 2019), which works line by line anyway. Its typographic edits (straight quotes, half-width forms) are disabled: they
change what an author wrote, and the punctuation of Chinese and Japanese.

Guarantee: ASCII text without control characters or trailing spaces is returned unchanged.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from cpt_ray.edges.packages import needed_for

_LINE_BREAKS = re.compile("\r\n|[\r\u2028\u2029\v\f]")
_TERMINAL_ESCAPES = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def normalize(text: str) -> str:
    r"""Repair and unify the text of a document.

    Page breaks, vertical tabs and Unicode line separators become newlines, so that no words run together.

    Args:
        text: The text.

    Returns:
        NFC text with `\n` line endings, no control characters except `\n` and tab, no trailing spaces, and no leading or
        trailing blank lines.
    """
    text = _LINE_BREAKS.sub("\n", text)
    if not text.isascii():
        repair = _repair()
        text = "\n".join(line if line.isascii() else repair(line) for line in text.split("\n"))
        text = _LINE_BREAKS.sub("\n", text.replace("\x85", "\n"))
    text = _CONTROL.sub("", _TERMINAL_ESCAPES.sub("", text))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


@functools.cache
def _repair() -> Callable[[str], str]:
    """The repair of a line: ftfy with the settings of this module, imported for the first line that is not ASCII."""
    with needed_for("prepare.clean.normalize"):
        import ftfy

    settings = ftfy.TextFixerConfig(
        unescape_html=False,
        uncurl_quotes=False,
        fix_character_width=False,
        remove_control_chars=False,
        fix_line_breaks=False,
        explain=False,
    )
    return functools.partial(ftfy.fix_text, config=settings)
