"""How much a document repeats itself: the share of its 5-word sequences that occurred in it before.

Part of stage `clean`. The report plots it for every document, and the rule set `education` has a limit for it. Words are those
of `data.words`, so case and punctuation do not hide a repetition; in scripts without spaces, two characters stand for a word.
Memory: a few times 8 bytes per word of 64 texts.

Guarantee: 0 if no sequence of five words occurs twice, and always below 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cpt_ray.data.scripts import CHARACTERS_PER_WORD, is_unspaced
from cpt_ray.data.words import Hashes, Offsets, hash_ngrams_batch, hash_words_batch

NGRAM_WORDS = 5
_BATCH = 64


def repetition(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """The share of n-grams that occurred before, float64[texts]; 0 for texts of fewer than five words."""
    shares = np.zeros(len(texts))
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        hashes, offsets = hash_words_batch(batch)
        long = np.array([is_unspaced(text) for text in batch], dtype=np.bool_)
        for length, wanted in ((NGRAM_WORDS, ~long), (NGRAM_WORDS * CHARACTERS_PER_WORD, long)):
            if wanted.any():
                found = _shares(*hash_ngrams_batch(hashes, offsets, length))
                shares[start : start + len(batch)][wanted] = found[wanted]
    return shares


def _shares(ngrams: Hashes, offsets: Offsets) -> npt.NDArray[np.float64]:
    return np.array(
        [
            1 - len(np.unique(ngrams[begin:end])) / (end - begin) if end > begin else 0.0
            for begin, end in itertools.pairwise(offsets.tolist())
        ]
    )
