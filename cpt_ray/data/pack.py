"""Stage `pack`: documents become rows of a fixed number of tokens.

Flow: lengths of a unit's documents (separators included) -> `pack` -> rows of pieces -> `permute`. Memory: about 150 bytes per
document of the unit. `best_fit` is best-fit decreasing, Ding et al. 2024 (arXiv 2404.10830, section 3): documents longer than a
row are cut into full rows and a remainder, no other document is cut. `concat` cuts wherever a row ends.

Guarantee: every token of every document lies in exactly one row, and the rows depend on the lengths alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from cpt_ray.data.words import seeded_uint64


class Piece(NamedTuple):
    """Consecutive tokens of one document in one row; `part` numbers the pieces of a document that was cut."""

    document: int
    offset: int
    tokens: int
    part: int


Row = list[Piece]


def pack(lengths: Sequence[int], capacity: int, strategy: Literal["best_fit", "concat"]) -> list[Row]:
    """Assign documents to rows.

    Args:
        lengths: Tokens of each document, in canonical order; documents of 0 tokens are in no row.
        capacity: Tokens per row.
        strategy: `best_fit` or `concat`.

    Returns:
        Rows in the order in which they were opened.
    """
    return _best_fit(lengths, capacity) if strategy == "best_fit" else _concat(lengths, capacity)


def permute(rows: list[Row], *, seed: int, source: str, unit: str) -> list[Row]:
    """Shuffle the rows of a unit: best-fit sorts by length, and in that order a window of rows would be a curriculum."""
    generator = np.random.Generator(np.random.PCG64(seeded_uint64("rows", seed, source, unit)))
    return [rows[index] for index in generator.permutation(len(rows)).tolist()]


def _pieces(lengths: Sequence[int], capacity: int) -> list[Piece]:
    return [
        Piece(document, start, min(capacity, length - start), start // capacity)
        for document, length in enumerate(lengths)
        for start in range(0, length, capacity)
    ]


def _best_fit(lengths: Sequence[int], capacity: int) -> list[Row]:
    """Best-fit decreasing in O(N log L): each piece goes to the row with the least room that still holds it.

    Ties between pieces go by canonical order, between rows to the one that reached this room last.
    """
    pieces = sorted(_pieces(lengths, capacity), key=lambda piece: -piece.tokens)
    rows: list[Row] = []
    room = _RoomTree(capacity)
    for piece in pieces:
        found = room.take(piece.tokens)
        if found is None:
            found = len(rows), capacity
            rows.append([])
        row, left = found
        rows[row].append(piece)
        room.put(row, left - piece.tokens)
    return rows


class _RoomTree:
    """Rows by the room left in them, with a binary tree over the amounts of room to find the least that is enough."""

    def __init__(self, capacity: int) -> None:
        self._size = 1 << capacity.bit_length()
        self._occupied = bytearray(2 * self._size)
        self._rows: list[list[int]] = [[] for _ in range(self._size)]

    def put(self, row: int, room: int) -> None:
        """File a row under its room; a full row is never asked for again."""
        if room == 0:
            return
        self._rows[room].append(row)
        node = self._size + room
        while node and not self._occupied[node]:
            self._occupied[node] = 1
            node >>= 1

    def take(self, needed: int) -> tuple[int, int] | None:
        """Take out the row with the least room of at least `needed`; return it and its room."""
        node = self._size + needed
        while not self._occupied[node]:
            # Up to the nearest occupied subtree on the right, whose leaves all have more room.
            while node & 1:
                node >>= 1
            if node == 0:
                return None
            node += 1
        while node < self._size:
            node <<= 1
            node += not self._occupied[node]
        room = node - self._size
        row = self._rows[room].pop()
        if not self._rows[room]:
            while node and not (node < self._size and (self._occupied[2 * node] or self._occupied[2 * node + 1])):
                self._occupied[node] = 0
                node >>= 1
        return row, room


def _concat(lengths: Sequence[int], capacity: int) -> list[Row]:
    rows: list[Row] = []
    left = 0
    for document, length in enumerate(lengths):
        offset = part = 0
        while offset < length:
            if left == 0:
                rows.append([])
                left = capacity
            tokens = min(left, length - offset)
            rows[-1].append(Piece(document, offset, tokens, part))
            offset, part, left = offset + tokens, part + 1, left - tokens
    return rows
