r"""Scripts that are written without spaces between words: Han, kana, Bopomofo, Thai, Lao, Khmer, Myanmar and the Tai scripts.

Used by `words` and by the rules of stage `clean`. In these scripts a character with its combining marks counts as a word. So do
UAX #29 (ideographs and hiragana), BLEU's tokenization of Chinese in sacreBLEU (Post 2018), and duplicate removal by characters,
which Data-Juicer (Chen et al. 2024, arXiv 2309.02033) recommends for Chinese; it needs no dictionary, and one changed character
changes the few n-grams around it, as one changed word does in English. Where a number of words says how much is being said,
two characters stand for a word. Korean, Tibetan and Yi separate words or syllables, and are read like English.

Guarantee: text without these scripts and without combining marks has the words that it would have without this module.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CHARACTERS_PER_WORD = 2
"""Characters that say about as much as a word: Chinese words have 1.5 on average, Japanese 2, Thai 3 with their marks."""

_MIXED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF)),
    *((0x3005, 0x3007), (0x3021, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF)),
    *((0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F)),
)
"""Blocks that hold punctuation, digits or marks too."""
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFD))
FIRST = _MIXED[0][0]
"""The first code point of these scripts: text below it needs no look at them."""


def _members(*, marks: bool) -> list[tuple[int, int]]:
    """Runs of code points of the mixed blocks: combining marks, or what else belongs in a word, except digits."""
    runs: list[tuple[int, int]] = []
    for first, last in _MIXED:
        for code in range(first, last + 1):
            character = chr(code)
            kind = unicodedata.category(character)
            if (kind[0] == "M") if marks else (kind != "Nd" and re.match(r"\w", character) is not None):
                begin = runs.pop()[0] if runs and runs[-1][1] == code - 1 else code
                runs.append((begin, code))
    return runs


LETTERS = (*_members(marks=False), *_IDEOGRAPHS)
"""First and last code points of the characters that begin a word."""
MARKS = tuple(_members(marks=True))
"""First and last code points of the marks that belong to the character before them."""


def _combining() -> list[tuple[int, int]]:
    """Runs of code points of the combining marks of all other scripts."""
    runs: list[tuple[int, int]] = []
    here = [range(first, last + 1) for first, last in _MIXED]
    for code in range(0x300, 0x20000):  # beyond, there are none but variation selectors
        if unicodedata.category(chr(code))[0] == "M" and not any(code in block for block in here):
            begin = runs.pop()[0] if runs and runs[-1][1] == code - 1 else code
            runs.append((begin, code))
    return runs


COMBINING = tuple(_combining())
"""First and last code points of the marks of scripts with spaces, which continue a word: accents, vowel signs, points."""


def _inside(runs: tuple[tuple[int, int], ...]) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in runs)


LETTER_CLASS, MARK_CLASS, COMBINING_CLASS = _inside(LETTERS), _inside(MARKS), _inside(COMBINING)
"""The same as the insides of character classes."""
_LETTER = re.compile(f"[{LETTER_CLASS}]")


class CharacterSet:
    """Characters to be looked for in whole documents: a table of 1.1 MB answers at a fifth of the cost of a pattern.

    Args:
        runs: First and last code points.
    """

    def __init__(self, runs: Sequence[tuple[int, int]]) -> None:
        self._runs = runs

    def found_in(self, text: str) -> bool:
        """Whether a text has any of the characters."""
        if text.isascii():
            return False
        codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
        return bool(self._table.take(codes, mode="clip").any())

    @functools.cached_property
    def _table(self) -> npt.NDArray[np.bool_]:
        table = np.zeros(sys.maxunicode + 1, dtype=np.bool_)
        for first, last in self._runs:
            table[first : last + 1] = True
        return table


_LETTERS = CharacterSet(LETTERS)
_PIECE = re.compile(rf"[{LETTER_CLASS}][{MARK_CLASS}]*[^\w\s{MARK_CLASS}]*|[^\s{LETTER_CLASS}]+")
_SPACED_WORD = re.compile(rf"[^\W_{LETTER_CLASS}]+")
_THAI_OR_LAO = re.compile("[\u0e00-\u0eff]")
_WIDE = re.compile(f"[{_inside(_IDEOGRAPHS)}\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff]")


def has_unspaced(text: str) -> bool:
    """Whether a text has any character of these scripts."""
    return _LETTERS.found_in(text)


def is_unspaced(text: str) -> bool:
    """Whether at least half of what a text says is in these scripts, at two characters a word."""
    if not has_unspaced(text):
        return False
    characters = len(_LETTER.findall(text))
    return characters >= CHARACTERS_PER_WORD * len(_SPACED_WORD.findall(text))


def has_no_full_stop(text: str) -> bool:
    """Whether a text is mostly Thai or Lao, which end a sentence with a space."""
    return is_unspaced(text) and 2 * len(_THAI_OR_LAO.findall(text)) >= len(_LETTER.findall(text))


def split_unspaced(text: str) -> list[str]:
    """Whitespace-separated words, cut after each character of these scripts; punctuation stays with what it follows."""
    return _PIECE.findall(text)


def line_width(line: str) -> int:
    """Characters of a line, where ideographs and kana count as two: they say as much and are as wide."""
    return len(line) if line.isascii() else len(line) + len(_WIDE.findall(line))
