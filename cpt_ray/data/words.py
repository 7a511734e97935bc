r"""Words, word n-grams and seeded hashes: the definitions shared by near-duplicate detection, held-out sets and exam scans.

A word is a run of `\w` and combining marks in folded text (the vowel signs of Devanagari, Bengali or Tamil are marks, and not
`\w`), so case, punctuation, line breaks, invisible characters and the widths and fonts of
letters never hide a match; in a script without spaces it is a character with its marks (`scripts`). Hashes have 64 bits and
are the same on every machine and in every process. Memory: tables of about 14 MB per process, 8 bytes per word of the current
documents, and 30 bytes per character of a window.

Guarantee: equal word sequences have equal hashes; two different n-grams collide with probability about 2^-64.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cpt_ray.data.invisible import IGNORABLE, IGNORABLE_RUNS
from cpt_ray.data.scripts import COMBINING, COMBINING_CLASS, FIRST, LETTER_CLASS, LETTERS, MARK_CLASS, MARKS, CharacterSet

Hashes: TypeAlias = npt.NDArray[np.uint64]
Offsets: TypeAlias = npt.NDArray[np.int64]

NO_WORDS: Hashes = np.empty(0, dtype=np.uint64)
FEWEST_WORDS = 8
"""Fewer consecutive words are ordinary language, in which a match tells nothing."""

_RUN = re.compile(r"\w+")
_WORD = re.compile(rf"[{LETTER_CLASS}][{MARK_CLASS}]*|[{MARK_CLASS}]+|(?:[^\W{LETTER_CLASS}]|[{COMBINING_CLASS}])+")
_SPACED, _LETTER, _MARK = 1, 2, 3
_VARIANTS = ((0x2100, 0x214F), (0xFB50, 0xFDFF), (0xFE70, 0xFEFE), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1EE00, 0x1EEFF))
"""Blocks of letters that are others in another width, font or position."""
_VARIANT_KINDS = ("<wide>", "<narrow>", "<font>", "<initial>", "<medial>", "<final>", "<isolated>")
_UNUSUAL = CharacterSet((*IGNORABLE_RUNS, *_VARIANTS))
_IGNORED = re.compile(f"[{IGNORABLE}]")
_WINDOW = 1 << 16
_ASCII = 128
_BASIC_PLANE = 1 << 16
_UNICODE = sys.maxunicode + 1
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def fold(text: str) -> str:
    """The form in which words are compared: casefolded, composed to NFC, in plain letters, without invisible characters.

    Of Unicode's compatibility forms only widths, fonts and positions are undone; `x²` and `½` stay what they are.
    """
    if text.isascii():
        return text.lower()
    if _UNUSUAL.found_in(text):
        text = _IGNORED.sub("", text).translate(_plain_letters())
    return unicodedata.normalize("NFC", text.casefold())


@functools.lru_cache(maxsize=1)
def _plain_letters() -> dict[int, str]:
    """The plain form of each letter that is another one in another width, font or position (NFKC of these kinds only)."""
    return {
        code: unicodedata.normalize("NFKD", chr(code))
        for first, last in _VARIANTS
        for code in range(first, last + 1)
        if unicodedata.decomposition(chr(code)).startswith(_VARIANT_KINDS)
    }


def words(text: str) -> list[str]:
    """Split text into its folded words."""
    return (_RUN if text.isascii() else _WORD).findall(fold(text))


def word_spans(text: str) -> list[tuple[int, int]] | None:
    """Start and end of each word of `words(text)` in `text` itself.

    Returns:
        None if folding does not preserve the order of characters: text that mixes composed and decomposed letters which are
        equal only after folding.
    """
    folded = fold(text)
    spans = [match.span() for match in _WORD.finditer(folded)]
    if len(folded) == len(text) and (text.isascii() or text.casefold() == folded):
        return spans
    plain = _plain_letters()
    pieces = ["" if _IGNORED.match(c) else plain.get(ord(c), c).casefold() for c in text]
    if "".join(pieces) != folded:
        return None
    origin = [place for place, piece in enumerate(pieces) for _ in piece]
    return [(origin[start], origin[end - 1] + 1) for start, end in spans]


def hash_words(text: str) -> Hashes:
    """Hash each word of `words(text)`.

    Returns:
        uint64[words]; a word's hash depends only on its characters.
    """
    return hash_words_batch([text])[0]


def hash_words_batch(texts: Sequence[str]) -> tuple[Hashes, Offsets]:
    """Hash the words of many texts at once, without a Python object per word.

    A polynomial hash over code points, modulo 2^64, computed from prefix sums (Karp and Rabin 1987): a few numpy passes over
    the characters, in windows of `_WINDOW` characters at 8 bytes each.

    Args:
        texts: The texts.

    Returns:
        Hashes of the words of all texts, uint64[words], and the offset of each text's first word, int64[texts + 1].
    """
    folded = [fold(text) for text in texts]
    kinds: npt.NDArray[np.uint8] | None = None
    joined = "\n".join(folded)
    if joined.isascii():
        codes: npt.NDArray[Any] = np.frombuffer(joined.encode(), dtype=np.uint8)
        values = _values(_ASCII)
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
        highest = int(codes.max(initial=0))
        size = _BASIC_PLANE if highest < _BASIC_PLANE else _UNICODE
        values = _values(size)
        # Curly quotes and dashes lie above these scripts too: the slower split is for texts that need it.
        if highest >= FIRST and (_kinds(size).take(codes, mode="clip") > _SPACED).any():
            kinds = _kinds(size)
    hashes: list[Hashes] = [np.empty(0, dtype=np.uint64)]
    starts: list[Offsets] = [np.empty(0, dtype=np.int64)]
    begin = 0
    while begin < len(codes):
        terms = _window(codes, values, begin)
        first = _first_characters(terms, kinds, codes[begin : begin + len(terms)])
        if len(first):
            powers, inverses = _powers(1 << (len(terms) - 1).bit_length())
            terms *= powers[: len(terms)]
            hashes.append(mix(np.add.reduceat(terms, first) * inverses[first]))
            starts.append(first + begin)
        begin += len(terms)
    beginnings = np.cumsum([0, *(len(text) + 1 for text in folded)])
    return np.concatenate(hashes), np.searchsorted(np.concatenate(starts), beginnings).astype(np.int64)


def _first_characters(terms: Hashes, kinds: npt.NDArray[np.uint8] | None, codes: npt.NDArray[Any]) -> Offsets:
    """Places of the characters that begin a word; `kinds` is None if the text has no scripts without spaces."""
    if kinds is None:
        inside = np.zeros(len(terms) + 2, dtype=np.bool_)
        np.not_equal(terms, 0, out=inside[1:-1])
        return np.flatnonzero(inside[1:] != inside[:-1])[::2]
    here = kinds.take(codes)
    before = np.concatenate([[0], here[:-1]])
    return np.flatnonzero(
        (here == _LETTER) | ((here == _SPACED) & (before != _SPACED)) | ((here == _MARK) & (before < _LETTER))
    )


def _window(codes: npt.NDArray[Any], values: Hashes, begin: int) -> Hashes:
    """Values of about `_WINDOW` characters starting at `begin`, ending outside a word or at the end of the text."""
    size = _WINDOW
    terms = values.take(codes[begin : begin + size])
    while terms[-1] and begin + len(terms) < len(codes):
        gaps = np.flatnonzero(terms == 0)
        if len(gaps):
            return terms[: gaps[-1] + 1]
        size *= 2
        terms = values.take(codes[begin : begin + size])
    return terms


@functools.lru_cache(maxsize=3)
def _values(size: int) -> Hashes:
    """The value of each code point in the polynomial: 0 for characters that are in no word."""
    values = mix((np.arange(size, dtype=np.uint64) + np.uint64(1)) * _FACTOR)
    values[_kinds(size) == 0] = 0
    return values


@functools.lru_cache(maxsize=3)
def _kinds(size: int) -> npt.NDArray[np.uint8]:
    """How each code point takes part in words: not at all, as part of a run, as a word of its own, as its mark."""
    kinds = np.zeros(size, dtype=np.uint8)
    for match in _RUN.finditer("".join(map(chr, range(size)))):
        kinds[match.start() : match.end()] = _SPACED
    for kind, runs in ((_SPACED, COMBINING), (_LETTER, LETTERS), (_MARK, MARKS)):
        for first, last in runs:
            kinds[first : last + 1] = kind
    return kinds


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The first powers of the polynomial's base, and of its inverse modulo 2^64."""
    tables = []
    for base in (int(_FACTOR), pow(int(_FACTOR), -1, 1 << 64)):
        table = np.full(count, base, dtype=np.uint64)
        table[0] = 1
        tables.append(np.multiply.accumulate(table))
    return tables[0], tables[1]


def mix(values: Hashes) -> Hashes:
    """Scramble 64-bit values (the finalizer of splitmix64, Steele et al. 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def hash_ngrams(word_hashes: Hashes, length: int) -> Hashes:
    """Hash every window of `length` words, in O(words x length).

    Args:
        word_hashes: Result of `hash_words` for a document.
        length: Words per n-gram.

    Returns:
        uint64[max(words - length + 1, 0)], in text order.
    """
    count = len(word_hashes) - length + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    result = np.full(count, length, dtype=np.uint64)
    for offset in range(length):
        result *= _FACTOR
        result += word_hashes[offset : offset + count]
    return mix(result)


def hash_ngrams_batch(word_hashes: Hashes, offsets: Offsets, length: int) -> tuple[Hashes, Offsets]:
    """Hash every window of `length` words that lies within one text.

    Args:
        word_hashes: Hashes of the words of all texts.
        offsets: Offset of each text's first word, as returned by `hash_words_batch`.
        length: Words per n-gram.

    Returns:
        Hashes, text after text, and the offset of each text's first n-gram, int64[texts + 1].
    """
    sizes = np.diff(offsets)
    windows = hash_ngrams(word_hashes, length)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    if len(windows):
        windows = windows[owner[: len(windows)] == owner[length - 1 :]]
    return windows, np.concatenate([[0], np.cumsum(np.maximum(sizes - length + 1, 0))])


def seeded_uint64(*parts: object) -> int:
    """A 64-bit hash of the parts: the seed of everything that is drawn by name."""
    data = "\x1f".join(str(part) for part in parts).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def seeded_share(*parts: object) -> float:
    """A number in [0, 1), uniform over names, determined by the parts."""
    return (seeded_uint64(*parts) >> 11) / (1 << 53)
