"""The order of samples: a function of the position, not a history.

Two seekable functions, composed; no list of samples is held. *mix*: position -> (source, j), by a quota table over one period.
*shuffle*: j -> row, by a seeded bijection of the source's rows (Feistel network with cycle walking), a new one each epoch.
The position is one integer, so resume is a seek, and any number of workers sees the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

PERIOD = 10_000
"""Weights are rationals with this denominator; proportions are exact over so many rows."""

_ROUNDS = 6
_MASK64 = (1 << 64) - 1


class SampleId(NamedTuple):
    """A row of a source's canonical sequence."""

    source: str
    row: int

    def __str__(self) -> str:
        return f"{self.source}:{self.row}"


class Bijection:
    """A seeded permutation of `range(size)`, evaluated one value at a time in O(1) memory.

    A balanced Feistel network over the next even power of two, walked until it lands inside (Black and Rogaway 2002); on
    average fewer than four evaluations. A linear congruence is not enough: it showed as a pathology in Marin's cooldown.
    """

    def __init__(self, size: int, seed: str) -> None:
        if size < 1:
            raise ValueError(f"a permutation of {size} values")
        self.size = size
        self._half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
        self._half_mask = (1 << self._half_bits) - 1
        digest = hashlib.blake2b(seed.encode(), digest_size=8 * _ROUNDS).digest()
        self._keys = [int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(_ROUNDS)]

    def __call__(self, value: int) -> int:
        """The image of `value`.

        Raises:
            ValueError: If it is outside `range(size)`.
        """
        if not 0 <= value < self.size:
            raise ValueError(f"{value} is outside range({self.size})")
        while True:
            value = self._network(value)
            if value < self.size:
                return value

    def _network(self, value: int) -> int:
        left, right = value >> self._half_bits, value & self._half_mask
        for key in self._keys:
            left, right = right, left ^ (_mix64(right ^ key) & self._half_mask)
        return (left << self._half_bits) | right


def _mix64(value: int) -> int:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def quotas(mix: Mapping[str, float]) -> dict[str, int]:
    """Round weights to parts of `PERIOD` by largest remainder; they add up exactly, and no positive weight becomes 0."""
    names = [name for name, weight in mix.items() if weight > 0]
    exact = {name: mix[name] * PERIOD for name in names}
    parts = {name: max(1, int(exact[name])) for name in names}
    by_remainder = sorted(names, key=lambda name: (parts[name] - exact[name], name))
    missing = PERIOD - sum(parts.values())
    for i in range(abs(missing)):
        name = by_remainder[i % len(names)] if missing > 0 else by_remainder[-1 - i % len(names)]
        parts[name] += 1 if missing > 0 else -1
    return parts


class SampleOrder:
    """The rows of one arm and one seed, in order.

    Args:
        mix: Source name to weight; weights add up to 1.
        rows: Source name to packed rows there are.
        seed: Another seed is another order.

    Memory: one table of `PERIOD` entries. Cost: O(1) per row at any position.
    """

    def __init__(self, mix: Mapping[str, float], rows: Mapping[str, int], seed: int) -> None:
        self._quotas = quotas(mix)
        self._sources = list(self._quotas)
        self._rows = {name: rows[name] for name in self._sources}
        self._seed = seed
        self._table, self._ordinal = _quota_table([self._quotas[name] for name in self._sources])
        self._bijections: dict[tuple[str, int], Bijection] = {}

    def at(self, position: int) -> SampleId:
        """The row at a position."""
        period, offset = divmod(position, PERIOD)
        source = self._sources[self._table[offset]]
        drawn = period * self._quotas[source] + int(self._ordinal[offset])
        epoch, index = divmod(drawn, self._rows[source])
        return SampleId(source, self._bijection(source, epoch)(index))

    def batch(self, position: int, size: int) -> list[SampleId]:
        """The rows at `position`, `position + 1`, ... ."""
        return [self.at(position + i) for i in range(size)]

    def drawn(self, position: int) -> dict[str, int]:
        """Rows drawn from each source before `position`."""
        period, offset = divmod(position, PERIOD)
        counts = np.bincount(self._table[:offset], minlength=len(self._sources))
        return {name: period * self._quotas[name] + int(counts[i]) for i, name in enumerate(self._sources)}

    def _bijection(self, source: str, epoch: int) -> Bijection:
        key = (source, epoch)
        if key not in self._bijections:
            self._bijections = {k: b for k, b in self._bijections.items() if k[0] != source or abs(k[1] - epoch) <= 1}
            self._bijections[key] = Bijection(self._rows[source], f"{self._seed}/{source}/{epoch}")
        return self._bijections[key]


def _quota_table(parts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Spread sources over one period: each slot goes to the source furthest behind its quota.

    Returns:
        Source index per slot [PERIOD], and how many slots of the same source precede it [PERIOD].
    """
    share = np.array(parts, dtype=np.int64)
    count = np.zeros_like(share)
    table = np.empty(PERIOD, dtype=np.int32)
    ordinal = np.empty(PERIOD, dtype=np.int64)
    for slot in range(PERIOD):
        behind = share * (slot + 1) - count * PERIOD
        behind[count >= share] = np.iinfo(np.int64).min
        choice = int(behind.argmax())
        table[slot], ordinal[slot] = choice, count[choice]
        count[choice] += 1
    return table, ordinal
