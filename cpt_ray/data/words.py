r"""Words, word n-grams and seeded hashes: the definitions shared by near-duplicate detection, held-out sets and exam scans.

A word is a run of `\w` in casefolded NFC text, so case, punctuation and line breaks never hide a match. Hashes have 64 bits
and are the same on every machine and in every process. Memory: tables of about 14 MB per process, 8 bytes per word of the
current documents, and 30 bytes per character of a window.

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

Hashes: TypeAlias = npt.NDArray[np.uint64]
Offsets: TypeAlias = npt.NDArray[np.int64]

NO_WORDS: Hashes = np.empty(0, dtype=np.uint64)

_WORD = re.compile(r"\w+")
_WINDOW = 1 << 16
_ASCII = 128
_BASIC_PLANE = 1 << 16
_UNICODE = sys.maxunicode + 1
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def fold(text: str) -> str:
    """Casefold `text`, composed to NFC: the form in which words are compared."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def words(text: str) -> list[str]:
    """Split text into its folded words."""
    return _WORD.findall(fold(text))


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
    pieces = [character.casefold() for character in text]
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
    joined = "\n".join(folded)
    if joined.isascii():
        codes: npt.NDArray[Any] = np.frombuffer(joined.encode(), dtype=np.uint8)
        values = _values(_ASCII)
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
        values = _values(_BASIC_PLANE if codes.max() < _BASIC_PLANE else _UNICODE)
    hashes: list[Hashes] = [np.empty(0, dtype=np.uint64)]
    starts: list[Offsets] = [np.empty(0, dtype=np.int64)]
    begin = 0
    while begin < len(codes):
        terms = _window(codes, values, begin)
        inside = np.zeros(len(terms) + 2, dtype=np.bool_)
        np.not_equal(terms, 0, out=inside[1:-1])
        first = np.flatnonzero(inside[1:] != inside[:-1])[::2]
        if len(first):
            powers, inverses = _powers(1 << (len(terms) - 1).bit_length())
            terms *= powers[: len(terms)]
            hashes.append(mix(np.add.reduceat(terms, first) * inverses[first]))
            starts.append(first + begin)
        begin += len(terms)
    beginnings = np.cumsum([0, *(len(text) + 1 for text in folded)])
    return np.concatenate(hashes), np.searchsorted(np.concatenate(starts), beginnings).astype(np.int64)


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
    """The value of each code point in the polynomial: 0 for characters that `_WORD` does not match."""
    values = mix((np.arange(size, dtype=np.uint64) + np.uint64(1)) * _FACTOR)
    inside = np.zeros(size, dtype=np.bool_)
    for match in _WORD.finditer("".join(map(chr, range(size)))):
        inside[match.start() : match.end()] = True
    values[~inside] = 0
    return values


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
