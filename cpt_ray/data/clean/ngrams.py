"""Characters in repeated n-grams of a document's tokens, as Gopher counts them.

Part of stage `clean`. Tokens in, character counts out. An n-gram is a 64-bit hash; the n-grams of each length are computed in
one pass over arrays. Memory: about 40 bytes per token of the current document.

Guarantee: the counts equal those over tuples of tokens, except for hash collisions (about 2^-64 for a pair).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cpt_ray.data.words import hash_ngrams, mix

Hashes = npt.NDArray[np.uint64]


class TokenNgrams:
    """The n-grams of one document's tokens.

    Args:
        tokens: The tokens.
        spaces: Whether the script separates words by spaces, which then count as characters of an n-gram.
    """

    def __init__(self, tokens: Sequence[str], *, spaces: bool = True) -> None:
        self._spaces = spaces
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        named = np.fromiter(map(numbers.__getitem__, tokens), dtype=np.uint64, count=len(tokens))
        self._words = mix(named + np.uint64(1))
        self._ends = np.concatenate([[0], np.cumsum(np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens)))])

    def top_characters(self, size: int) -> int:
        """Characters in all copies of the most frequent n-gram, including spaces between words; ties go to the first."""
        hashes = hash_ngrams(self._words, size)
        if not len(hashes):
            return 0
        ordered = np.sort(hashes)
        starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
        counts = np.diff(np.concatenate([starts, [len(ordered)]]))
        most = int(counts.max())
        first = int(np.argmax(np.isin(hashes, ordered[starts[counts == most]]))) if most > 1 else 0
        between = size - 1 if self._spaces else 0
        return (int(self._ends[first + size] - self._ends[first]) + between) * most

    def any_repeats(self, size: int) -> bool:
        """Whether any n-gram occurs twice."""
        ordered = np.sort(hash_ngrams(self._words, size))
        return bool((ordered[1:] == ordered[:-1]).any())

    def duplicates_exceed(self, size: int, characters: float) -> bool:
        """Whether n-grams that occurred before, counted left to right and without overlap, have more than `characters`."""
        hashes = hash_ngrams(self._words, size)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        again = order[1:][ordered[1:] == ordered[:-1]]
        # Everything they cover is an upper bound on the count without overlap, and usually already low enough.
        edges = np.zeros(len(self._words) + 1, dtype=np.int64)
        np.add.at(edges, again, 1)
        np.add.at(edges, again + size, -1)
        covered = np.cumsum(edges[:-1]) > 0
        if int(np.diff(self._ends)[covered].sum()) <= characters:
            return False
        return self._duplicate_characters(hashes.tolist(), size) > characters

    def _duplicate_characters(self, hashes: list[int], size: int) -> int:
        seen: set[int] = set()
        ends = self._ends.tolist()
        characters = place = 0
        while place < len(hashes):
            if hashes[place] in seen:
                characters += ends[place + size] - ends[place]
                place += size
            else:
                seen.add(hashes[place])
                place += 1
        return characters
