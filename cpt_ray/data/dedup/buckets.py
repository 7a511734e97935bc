"""Find duplicate pairs within one partition of the key space: documents that share a key and are in fact similar.

Flow: stage `duplicate_edges`. Rows of `KEY_SCHEMA` and a way to compare documents in; duplicate pairs, and the documents that
repeat another word for word, out. A shared band makes a pair a candidate, and the sketches decide: bands alone would join
documents far below the threshold, and components would grow through them. Memory: 24 bytes per key, plus the sketches of the
documents that share one.

Cost: in a bucket of up to `ALL_PAIRS` documents, all pairs are compared; in a larger one, documents are compared with one
representative after another, at most `REPRESENTATIVES`, and assigned to the first that they are similar to. So n keys cost at
most about `REPRESENTATIVES` x n comparisons, however full a bucket is.

Guarantee: the result depends only on the set of rows, not on their order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cpt_ray.data.words import Hashes

ALL_PAIRS = 16
REPRESENTATIVES = 16

Similar: TypeAlias = Callable[[Hashes, Hashes], npt.NDArray[np.bool_]]
"""Whether documents are similar, pair by pair, given their references."""
Load: TypeAlias = Callable[[Hashes], Similar]
"""Loads the data needed to compare these documents."""


@dataclass(frozen=True)
class Duplicates:
    """Duplicates found in one partition.

    Attributes:
        pairs: References of duplicates, uint64[n, 2], smaller reference first, sorted, each pair once.
        repeats: References of the documents whose exact hash an earlier document has, sorted uint64.
        candidates: Number of comparisons made.
        left: Number of documents in large buckets that were similar to none of the representatives.
    """

    pairs: Hashes
    repeats: Hashes
    candidates: int
    left: int


def duplicates(keys: pa.Table, load: Load) -> Duplicates:
    """Find the duplicates in one partition.

    Args:
        keys: All rows of the partition.
        load: Called once with the sorted references of the documents that share a band with a document of different text.
    """
    key, exact, document = _shared(keys)
    same_text = _follows(key, exact)
    repeats = np.flatnonzero(same_text & (key == exact))  # a band's key equals an exact hash with probability 2^-64
    head = np.maximum.accumulate(np.where(same_text, 0, np.arange(len(key))))
    exact_pairs = np.stack([document[head[repeats]], document[repeats]], axis=1)

    band, members = _band_rows(key, exact, document)
    similar = load(np.unique(members))
    large = _group_sizes(band) > ALL_PAIRS
    pairs = _all_pairs(band[~large], members[~large])
    near_pairs = pairs[similar(pairs[:, 0], pairs[:, 1])]
    star_pairs, compared, left = _with_representatives(band[large], members[large], similar)
    found = np.unique(np.sort(np.concatenate([exact_pairs, near_pairs, star_pairs]), axis=1), axis=0)
    return Duplicates(found, np.unique(document[repeats]), len(pairs) + compared, left)


def _shared(keys: pa.Table) -> tuple[Hashes, Hashes, Hashes]:
    """Key, exact hash and reference of the rows that share their key, sorted by all three."""
    key = keys["key"].to_numpy()
    order = np.argsort(key)
    ordered = key[order]
    shared = np.zeros(len(key), dtype=np.bool_)
    shared[1:] = ordered[1:] == ordered[:-1]
    shared[:-1] |= shared[1:]
    rows = order[shared]
    key, exact, document = key[rows], keys["exact"].to_numpy()[rows], keys["document"].to_numpy()[rows]
    order = np.lexsort((document, exact, key))
    return key[order], exact[order], document[order]


def _follows(key: Hashes, exact: Hashes) -> npt.NDArray[np.bool_]:
    """Whether the previous row has the same key and the same text."""
    result = np.zeros(len(key), dtype=np.bool_)
    result[1:] = (key[1:] == key[:-1]) & (exact[1:] == exact[:-1])
    return result


def _band_rows(key: Hashes, exact: Hashes, document: Hashes) -> tuple[Hashes, Hashes]:
    """Key and reference of the band rows whose bucket contains at least two texts, each bucket in order of references.

    Documents with the same text share all bands: one represents the others, which the exact key has already joined to it.
    """
    kept = ~_follows(key, exact) & (key != exact)
    key, document = key[kept], document[kept]
    several = _group_sizes(key) > 1
    key, document = key[several], document[several]
    order = np.lexsort((document, key))
    return key[order], document[order]


def _group_sizes(key: Hashes) -> npt.NDArray[np.int64]:
    """For each row: the size of the run of equal keys it belongs to."""
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.concatenate([starts, [len(key)]]))
    return np.repeat(sizes, sizes)


def _all_pairs(key: Hashes, document: Hashes) -> Hashes:
    """All pairs of each bucket; a pair that shares several buckets is returned once."""
    pairs = [np.empty((0, 2), dtype=np.uint64)]
    for distance in range(1, ALL_PAIRS):
        rows = np.flatnonzero(key[distance:] == key[:-distance])
        if not len(rows):
            break
        pairs.append(np.stack([document[rows], document[rows + distance]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _with_representatives(key: Hashes, document: Hashes, similar: Similar) -> tuple[Hashes, int, int]:
    """Compare documents of large buckets with representatives: all buckets at once, one representative each per round."""
    pairs = [np.empty((0, 2), dtype=np.uint64)]
    compared = 0
    for _ in range(REPRESENTATIVES):
        if not len(key):
            break
        is_head = np.concatenate([[True], key[1:] != key[:-1]])
        head = document[np.maximum.accumulate(np.where(is_head, np.arange(len(key)), 0))]
        others = ~is_head
        equal = np.zeros(len(key), dtype=np.bool_)
        equal[others] = similar(head[others], document[others])
        compared += int(others.sum())
        pairs.append(np.stack([head[equal], document[equal]], axis=1))
        remaining = others & ~equal
        key, document = key[remaining], document[remaining]
    return np.concatenate(pairs), compared, len(key)
