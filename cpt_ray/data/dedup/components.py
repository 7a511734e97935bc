"""Connected components of duplicate pairs: find the document that represents each component.

Flow: between stages `duplicate_edges` and `near_duplicates`. Pairs of references in, (document, root) out, where the root is
the smallest reference of the component. References are ordered by priority, so the root is the document that is kept.

Connected components by alternating large-star and small-star steps (Kiveris et al. 2014, Connected Components in MapReduce
and Beyond): each step needs the pairs of one document at a time, so documents are spread over partitions, pairs are exchanged
between steps, and no process holds them all. If there are few, one process does all steps (`solve`). Memory: 16 bytes per pair
of the partition, and as much again while sorting; the star of a component is in one partition. Cost: one sort per step; the
number of steps grows with the logarithm of the longest chain.

Guarantee: the result is a function of the set of pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cpt_ray.data.words import Hashes, mix

Pairs: TypeAlias = npt.NDArray[np.uint64]
"""uint64[n, 2]."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def both_ways(pairs: Pairs) -> Pairs:
    """Each pair in both directions, so that either end comes first once."""
    return np.concatenate([pairs, pairs[:, ::-1]])


def downward(pairs: Pairs) -> Pairs:
    """Each pair in one direction, larger reference first."""
    return np.ascontiguousarray(np.sort(pairs, axis=1)[:, ::-1])


def unique(pairs: Pairs) -> Pairs:
    """Pairs sorted and without duplicates."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    repeated = np.zeros(len(pairs), dtype=np.bool_)
    repeated[1:] = (pairs[1:] == pairs[:-1]).all(axis=1)
    return pairs[~repeated]


def large_star(pairs: Pairs) -> Pairs:
    """Link the larger neighbors of each document to the smallest of its neighbors and itself.

    Args:
        pairs: Result of `both_ways` for some documents; all pairs of each of them.
    """
    pairs = unique(pairs)
    smallest = _smallest(pairs)
    larger = pairs[:, 1] > pairs[:, 0]
    return np.stack([pairs[larger, 1], smallest[larger]], axis=1)


def small_star(pairs: Pairs) -> Pairs:
    """Link each document and its smaller neighbors to the smallest of them.

    Args:
        pairs: Result of `downward` for some documents; all pairs of each of them.
    """
    pairs = unique(pairs)
    smallest = _smallest(pairs)
    links = np.concatenate([np.stack([pairs[:, 1], smallest], axis=1), np.stack([pairs[:, 0], smallest], axis=1)])
    return unique(links[links[:, 0] != links[:, 1]])


def _smallest(pairs: Pairs) -> Hashes:
    """For each row of sorted pairs: the smallest of its first document and that document's neighbors."""
    if not len(pairs):
        return pairs[:, 0]
    starts = np.flatnonzero(np.concatenate([[True], pairs[1:, 0] != pairs[:-1, 0]]))
    sizes = np.diff(np.concatenate([starts, [len(pairs)]]))
    return np.repeat(np.minimum(np.minimum.reduceat(pairs[:, 1], starts), pairs[starts, 0]), sizes)


def checksum(pairs: Pairs) -> int:
    """Checksum of the set of downward pairs among `pairs`; checksums of disjoint sets add up modulo 2^62."""
    pairs = unique(pairs)
    pairs = pairs[pairs[:, 0] > pairs[:, 1]]
    return int(mix(pairs[:, 0] * _FACTOR + pairs[:, 1]).sum(dtype=np.uint64)) % 2**62


def solve(pairs: Pairs) -> Pairs:
    """All steps in one process: duplicate pairs in, sorted (document, root) of every document except the roots out."""
    links = unique(downward(pairs))
    while True:
        next_links = small_star(downward(large_star(both_ways(links))))
        if np.array_equal(next_links, links):
            return links
        links = next_links


def partition_of(documents: Hashes, partitions: int) -> npt.NDArray[np.int64]:
    """The partition that holds all pairs of a document."""
    return (mix(documents) % np.uint64(partitions)).astype(np.int64)


def histogram(sizes: Iterable[int]) -> dict[str, int]:
    """Count components by size, in classes of doubling width: `2`, `3-4`, `5-8` and so on."""
    counts: dict[int, int] = {}
    for size in sizes:
        upper = 1 << (size - 1).bit_length()
        counts[upper] = counts.get(upper, 0) + 1
    return {size_class(upper): counts[upper] for upper in sorted(counts)}


def size_class(upper: int) -> str:
    """Name of the class of components of more than `upper / 2` and at most `upper` documents."""
    return str(upper) if upper <= 2 else f"{upper // 2 + 1}-{upper}"
