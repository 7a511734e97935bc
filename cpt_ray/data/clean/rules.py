"""Quality rules on one document; each names the reason under which it drops.

Flow: part of stage `clean`. `Document` and the rule's setting in, `Dropped(reason)` or None out. Memory: the lines and words
of the document at hand. The rules called Gopher are of Rae et al. 2021 (arXiv 2112.11446, appendix A.1); the thresholds are
`prepare.clean`'s, and a rule set to null is not run.

Guarantee: a rule looks at nothing but the document and its setting, so its verdict never depends on the rest of the corpus.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from cpt_ray.records import Document, Dropped

_SHORT_LINE = 20
_LETTER = re.compile(r"[^\W\d_]")


class TextView:
    """A document with its lines and words, computed when first asked for."""

    def __init__(self, document: Document) -> None:
        self.document = document

    @functools.cached_property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the text."""
        return len(self.document.text.encode())

    @functools.cached_property
    def lines(self) -> list[str]:
        """Non-empty lines, stripped."""
        return [line.strip() for line in self.document.text.split("\n") if line.strip()]

    @functools.cached_property
    def words(self) -> list[str]:
        """Words between white space, as Gopher counts them."""
        return self.document.text.split()


def language(view: TextView, allowed: tuple[str, ...]) -> Dropped | None:
    """Drop documents of a known language that is not wanted; `en-GB` counts as `en`."""
    code = view.document.language
    if code is None or code in allowed or code.replace("_", "-").split("-")[0].lower() in allowed:
        return None
    return Dropped("language")


def too_short(view: TextView, least: int) -> Dropped | None:
    """Drop documents of fewer UTF-8 bytes."""
    return Dropped("too_short") if view.num_bytes < least else None


def too_long(view: TextView, most: int) -> Dropped | None:
    """Drop documents of more UTF-8 bytes."""
    return Dropped("too_long") if view.num_bytes > most else None


def few_lines(view: TextView, least: int) -> Dropped | None:
    """Drop documents of fewer non-empty lines."""
    return Dropped("few_lines") if len(view.lines) < least else None


def short_lines(view: TextView, most: float) -> Dropped | None:
    """Drop lists and menus: too large a share of lines under 20 characters."""
    short = sum(len(line) < _SHORT_LINE for line in view.lines)
    return Dropped("short_lines") if short > most * len(view.lines) else None


def repeated_lines(view: TextView, most: float) -> Dropped | None:
    """Drop documents with too large a share of lines that stood there before (Gopher, duplicate line fraction)."""
    repeated = len(view.lines) - len(set(view.lines))
    return Dropped("repeated_lines") if repeated > most * len(view.lines) else None


def symbols(view: TextView, most: float) -> Dropped | None:
    """Drop documents with too many hash signs, or too many ellipses, per word (Gopher, symbol-to-word ratio)."""
    text, limit = view.document.text, most * len(view.words)
    return Dropped("symbols") if text.count("#") > limit or text.count("...") + text.count("…") > limit else None


def few_letters(view: TextView, least: float) -> Dropped | None:
    """Drop documents with too small a share of words that hold a letter (Gopher has 80 %)."""
    with_letter = sum(word.isalpha() or _LETTER.search(word) is not None for word in view.words)
    return Dropped("few_letters") if with_letter < least * len(view.words) or not view.words else None


def word_length(view: TextView, allowed: tuple[float, float]) -> Dropped | None:
    """Drop documents whose mean word length lies outside the range (Gopher: 3 to 10 characters)."""
    mean = sum(map(len, view.words)) / max(len(view.words), 1)
    return None if allowed[0] <= mean <= allowed[1] else Dropped("word_length")


Rule = Callable[[TextView, Any], Dropped | None]

RULES: dict[str, Rule] = {
    "languages": language,
    "min_bytes": too_short,
    "max_bytes": too_long,
    "min_lines": few_lines,
    "max_short_line_share": short_lines,
    "max_repeated_line_share": repeated_lines,
    "max_symbol_word_ratio": symbols,
    "min_alphabetic_word_share": few_letters,
    "mean_word_length": word_length,
}
"""Key of `prepare.clean` to its rule, cheapest first."""

REASON_KEYS = {
    "language": "languages",
    "too_short": "min_bytes",
    "too_long": "max_bytes",
    "few_lines": "min_lines",
    "short_lines": "max_short_line_share",
    "repeated_lines": "max_repeated_line_share",
    "symbols": "max_symbol_word_ratio",
    "few_letters": "min_alphabetic_word_share",
    "word_length": "mean_word_length",
}
"""Reason to the key of `prepare.clean` that sets it."""
