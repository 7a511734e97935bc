r"""Words, word n-grams and seeded hashes: the one definition that near-duplicates, held-out and exam scans share.

Not a stage: stages import it. A word is a run of `\w` in casefolded NFC text, so case, punctuation and line breaks never
hide a match. Hashes are 64 bits wide and the same on every machine and in every process. Memory: a cache of at most
`_CACHE_WORDS` words per process, and 8 bytes per word of the document at hand.

Guarantee: equal word sequences have equal hashes; two different n-grams meet with probability about 2^-64.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Hashes: TypeAlias = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+")
_CACHE_WORDS = 2_000_000
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def fold(text: str) -> str:
    """Casefold `text`, composed to NFC: the form in which words are compared."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def words(text: str) -> list[str]:
    """Split text into its folded words."""
    return _WORD.findall(fold(text))


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each word of `words(text)`, as offsets into `fold(text)`."""
    return [match.span() for match in _WORD.finditer(fold(text))]


class _WordHashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHE_WORDS:
            self.clear()
        value = int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
        self[word] = value
        return value


_CACHE = _WordHashes()


def hash_words(sequence: list[str]) -> Hashes:
    """Hash each word.

    Args:
        sequence: Words as `words` gives them.

    Returns:
        uint64[len(sequence)].
    """
    return np.fromiter(map(_CACHE.__getitem__, sequence), dtype=np.uint64, count=len(sequence))


def mix(values: Hashes) -> Hashes:
    """Scramble 64-bit values (the finaliser of splitmix64, Steele et al. 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def hash_ngrams(word_hashes: Hashes, length: int) -> Hashes:
    """Hash every window of `length` words, in O(words x length).

    Args:
        word_hashes: What `hash_words` gave for a document.
        length: Words per n-gram.

    Returns:
        uint64[max(words - length + 1, 0)], in the order of the text.
    """
    count = len(word_hashes) - length + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    result = np.full(count, length, dtype=np.uint64)
    for offset in range(length):
        result = result * _FACTOR + word_hashes[offset : offset + count]
    return mix(result)


def seeded_uint64(*parts: object) -> int:
    """A 64-bit hash of the parts: the seed of anything that is drawn by name."""
    data = "\x1f".join(str(part) for part in parts).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def seeded_share(*parts: object) -> float:
    """A number in [0, 1), uniform over names, fixed by the parts."""
    return (seeded_uint64(*parts) >> 11) / (1 << 53)
