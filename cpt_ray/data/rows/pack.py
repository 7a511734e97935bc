"""Stage `pack`: pack documents into rows of a fixed number of tokens.

Flow: lengths of a unit's documents (separators included) -> `pack` -> `PackedPieces` -> `permute`. Memory: about 100 bytes per
document of the unit. `best_fit` is best-fit decreasing, Ding et al. 2024 (arXiv 2404.10830, section 3): documents longer than a
row are cut into full rows and a remainder, no other document is cut. Rows left with free space are repacked by exact sums if
that saves a row. `concat` cuts wherever a row ends.

Guarantee: every token of every document is in exactly one row, and the rows depend only on the lengths.

Example: six documents, rows of 8 tokens. Document 5 is longer than a row, so its first 8 tokens fill one and its last 3 are
placed like any document; `4 of 2` is all of document 2, and shares a row with them.

    >>> rows = pack([7, 3, 4, 5, 2, 11], 8, "best_fit")
    >>> for row in range(rows.num_rows):
    ...     pieces = slice(rows.borders[row], rows.borders[row + 1])
    ...     print(*(f"{n} of {d}" for d, n in zip(rows.document[pieces], rows.tokens[pieces])), sep=" | ")
    8 of 5
    7 of 0
    5 of 3 | 3 of 1
    4 of 2 | 3 of 5
    2 of 4

`concat` needs four rows for the same 32 tokens, and cuts documents 1, 3 and 5.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from cpt_ray.data.words import seeded_uint64
from cpt_ray.records import PackedPieces

Integers = npt.NDArray[np.int64]


def pack(lengths: Sequence[int] | Integers, capacity: int, strategy: Literal["best_fit", "concat"]) -> PackedPieces:
    """Assign documents to rows.

    Args:
        lengths: Tokens of each document, in canonical order; documents of 0 tokens are in no row.
        capacity: Tokens per row.
        strategy: `best_fit` or `concat`.

    Returns:
        The rows, each with its pieces in the order in which they were placed.
    """
    array = np.asarray(lengths, dtype=np.int64)
    return _best_fit(array, capacity) if strategy == "best_fit" else _concat(array, capacity)


def permute(pieces: PackedPieces, *, seed: int, source: str, unit: str) -> PackedPieces:
    """Shuffle the rows of a unit: best-fit sorts by length, so in that order training would follow a length curriculum."""
    generator = np.random.Generator(np.random.PCG64(seeded_uint64("rows", seed, source, unit)))
    order = generator.permutation(pieces.num_rows)
    counts = np.diff(pieces.borders)[order]
    borders = np.concatenate([[0], np.cumsum(counts)])
    # Piece p of the new row r is piece p of the old row order[r].
    places = np.arange(borders[-1]) + np.repeat(pieces.borders[:-1][order] - borders[:-1], counts)
    document, offset, tokens, part = (column[places] for column in pieces.columns())
    return PackedPieces(document, offset, tokens, part, borders)


def _best_fit(lengths: Integers, capacity: int) -> PackedPieces:
    """Best-fit decreasing: each piece goes to the row with the least free space that still fits it.

    Ties between pieces are broken by canonical order, ties between rows in favor of the one that reached this free space last.
    Cost: a sort, plus one step per pair of a class of equal pieces and a class of rows with equal free space that it fills:
    O(N log N + L^2 / 64), compared with O(N log L) for the paper's segment tree; a step moves all rows and pieces of its
    classes at once.
    """
    parts = -(-lengths // capacity)
    document = np.repeat(np.arange(len(lengths)), parts)
    part = np.arange(len(document)) - np.repeat(np.cumsum(parts) - parts, parts)
    offset = part * capacity
    tokens = np.minimum(capacity, lengths[document] - offset)
    order = np.argsort(-tokens, kind="stable")
    row = _refilled(_rows_of(tokens[order], capacity), tokens[order], capacity)
    order = order[np.argsort(row, kind="stable")]
    borders = np.concatenate([[0], np.cumsum(np.bincount(row))])
    return PackedPieces(document[order], offset[order], tokens[order], part[order], borders)


def _rows_of(sizes: Integers, capacity: int) -> Integers:
    """The row of each piece by best fit; `sizes` are in descending order.

    All pieces of one size are placed together. A row with free space r takes r // size of them in succession, because after
    each one the row is still the best fit, until it is too small.
    """
    row_of = np.empty(len(sizes), dtype=np.int64)
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set if some row has free space r
    opened = at = end = 0
    ascending, counts = np.unique(sizes, return_counts=True)
    for size, count in zip(ascending[::-1].tolist(), counts[::-1].tolist(), strict=True):
        end += count
        while at < end:
            enough = rooms >> size
            room = size + (enough & -enough).bit_length() - 1 if enough else capacity
            each = room // size
            wanted = -(-(end - at) // each)
            if enough:
                rows = by_room[room][: -wanted - 1 : -1]
                del by_room[room][-wanted:]
                rooms ^= 0 if by_room[room] else 1 << room
            else:
                rows = list(range(opened, opened + wanted))
                opened += wanted
            placed = min(end - at, each * len(rows))
            row_of[at : at + placed] = np.repeat(rows, each)[:placed]
            at += placed
            in_last = placed - each * (len(rows) - 1)
            for left, those in ((room - each * size, rows[:-1]), (room - in_last * size, rows[-1:])):
                if left and those:
                    by_room[left] += those
                    rooms |= 1 << left
    return row_of


def _refilled(row_of: Integers, sizes: Integers, capacity: int) -> Integers:
    """Repack the rows with free space of more than 1/128 of a row, if that saves a row; `sizes` are in descending order.

    Best fit places the smallest pieces last, so nothing is left to fit the gaps of its last rows. Here a row gets the largest
    pieces until it is at least half full, then the subset of the others whose sum comes closest to the remaining space:
    minimum bin slack (Gupta and Ho 1999), with the reachable sums as bits of an integer. Cost: at most one step per remaining
    piece for each such row.
    """
    room = capacity - np.bincount(row_of, weights=sizes).astype(np.int64)
    loose = room > capacity // 128
    if room[loose].sum() < capacity:
        return row_of
    members = np.flatnonzero(loose[row_of])
    ascending, starts, counts = np.unique(-sizes[members], return_index=True, return_counts=True)
    left = dict(zip((-ascending).tolist(), counts.tolist(), strict=True))
    following = dict(zip((-ascending).tolist(), starts.tolist(), strict=True))
    waiting = sorted(left)
    row_in_pool = np.empty(len(members), dtype=np.int64)
    rows = 0

    def take(size: int) -> int:
        row_in_pool[following[size]] = rows
        following[size] += 1
        left[size] -= 1
        if not left[size]:
            del waiting[bisect_right(waiting, size) - 1]
        return size

    while waiting:
        free = capacity
        while 2 * free > capacity and (fitting := bisect_right(waiting, free)):
            free -= take(waiting[fitting - 1])
        sums, seen = 1, []  # bit s of `sums` is set if a subset of the pieces in `seen` has the sum s
        for size in reversed(waiting[: bisect_right(waiting, free)]):
            for _ in range(min(left[size], free // size)):
                seen.append((size, sums))
                sums |= (sums << size) & ((2 << free) - 1)
            if sums >> free:
                break
        best = sums.bit_length() - 1
        for size, without in reversed(seen):
            if not without >> best & 1:
                best -= take(size)
        rows += 1
    if rows >= np.count_nonzero(loose):
        return row_of
    refilled = row_of.copy()
    refilled[members] = len(room) + row_in_pool
    return np.unique(refilled, return_inverse=True)[1]


def _concat(lengths: Integers, capacity: int) -> PackedPieces:
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.union1d(ends[lengths > 0], np.arange(0, total, capacity)[1:])
    starts = np.concatenate([[0], cuts[:-1]]) if total else cuts
    document = np.searchsorted(ends, starts, side="right")
    _, first = np.unique(document, return_index=True)
    part = np.arange(len(starts)) - np.repeat(first, np.diff([*first, len(starts)]))
    borders = np.concatenate([[0], np.cumsum(np.bincount(starts // capacity))]) if total else np.zeros(1, dtype=np.int64)
    return PackedPieces(document, starts - (ends - lengths)[document], cuts - starts, part, borders)
