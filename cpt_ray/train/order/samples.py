"""The order of samples: a function of the position, not a history.

Between `train.order.mixes` and a worker's batches. In: mixtures and their start positions, rows per source, a seed. Out: the
row at any position. Two seekable functions are composed; no list of samples is held.
*mix*: position -> (source, j), by a quota table over one period of each mixture. *shuffle*: j -> row, by a seeded bijection of
the source's rows, or of each window of them; a different one each epoch.

Guarantee: the rows drawn from a source are a prefix of one sequence, whichever mixtures drew them; so the position is one
integer, resume is a seek, and any number of workers sees the same rows.

Example: three rows of law to one of news, then news alone from position 8. By then law is one row into its second epoch; news
continues with the third of its 4 rows, and starts over at position 10.

    >>> mixes = [MixAt(0, {"law": 0.75, "news": 0.25}), MixAt(8, {"news": 1.0})]
    >>> order = SampleOrder(mixes, {"law": 5, "news": 4}, seed=0)
    >>> print(*order.batch(0, 8))
    law:1 law:0 law:3 news:1 law:2 law:4 law:2 news:0
    >>> print(*order.batch(8, 4))
    news:2 news:3 news:1 news:0
    >>> order.drawn(8), str(order.at(8))
    ({'law': 6, 'news': 2}, 'news:2')
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

PERIOD = 10_000
"""Weights are rationals with this denominator; proportions are exact over this many rows."""

_ROUNDS = 6
_MASK64 = (1 << 64) - 1
_KEPT_BIJECTIONS = 4096
_FEW = 16
"""Up to this many values are walked one by one: an array's overhead would cost more (measured)."""

Integers = npt.NDArray[np.int64]
Unsigned = npt.NDArray[np.uint64]


class SampleId(NamedTuple):
    """A row of a source's canonical sequence."""

    source: str
    row: int

    def __str__(self) -> str:
        return f"{self.source}:{self.row}"


class MixAt(NamedTuple):
    """A mixture, and the position from which it applies."""

    position: int
    mix: Mapping[str, float]


class Bijection:
    """A seeded permutation of `range(size)`, evaluated one value or one array at a time in O(1) memory.

    A Feistel network over the next power of two, walked until the value is in range (Black and Rogaway 2002): on average fewer
    than two evaluations. A linear congruence is not enough: it caused a pathology in Marin's cooldown.
    """

    def __init__(self, size: int, seed: str) -> None:
        if size < 1:
            raise ValueError(f"cannot permute {size} values")
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self.low_bits, self.high_bits = bits - bits // 2, bits // 2
        digest = hashlib.blake2b(seed.encode(), digest_size=8 * _ROUNDS).digest()
        self.keys = [int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(_ROUNDS)]

    def __call__(self, value: int) -> int:
        """The image of `value`; the reference for `images`.

        Raises:
            ValueError: If it is outside `range(size)`.
        """
        if not 0 <= value < self.size:
            raise ValueError(f"{value} is outside range({self.size})")
        return self.walk(self._network(value))

    def walk(self, value: int) -> int:
        """Apply the network to a value until it is in range."""
        while value >= self.size:
            value = self._network(value)
        return value

    def images(self, values: Integers) -> Integers:
        """The images of `values`, int64[n], all at once.

        Raises:
            ValueError: If one is outside `range(size)`.
        """
        return images_of([self], np.zeros(len(values), dtype=np.int64), values)

    def _network(self, value: int) -> int:
        low, high = (1 << self.low_bits) - 1, (1 << self.high_bits) - 1
        left, right = value >> self.low_bits, value & low
        for first, second in zip(self.keys[::2], self.keys[1::2], strict=True):
            left ^= _mix64(right ^ first) & high
            right ^= _mix64(left ^ second) & low
        return (left << self.low_bits) | right


def images_of(bijections: Sequence[Bijection], which: Integers, values: Integers) -> Integers:
    """The image of each value under its bijection.

    Args:
        bijections: The bijections.
        which: Index of each value's bijection, int64[n].
        values: int64[n].

    Raises:
        ValueError: If a value is outside its bijection's range.
    """
    sizes = np.array([bijection.size for bijection in bijections], dtype=np.int64)[which]
    if ((values < 0) | (values >= sizes)).any():
        outside = int(np.flatnonzero((values < 0) | (values >= sizes))[0])
        raise ValueError(f"{values[outside]} is outside range({sizes[outside]})")
    bits = np.array([(bijection.low_bits, bijection.high_bits) for bijection in bijections], dtype=np.uint64).reshape(-1, 2)
    keys = np.array([bijection.keys for bijection in bijections], dtype=np.uint64).reshape(-1, _ROUNDS)
    result = values.copy()
    walking = np.arange(len(values))
    while True:
        here = which[walking]
        images = _networks(result[walking].astype(np.uint64), bits[here].T, keys[here].T).astype(np.int64)
        result[walking] = images
        walking = walking[images >= sizes[walking]]
        if len(walking) <= _FEW:
            break
    for place in walking.tolist():
        result[place] = bijections[which[place]].walk(int(result[place]))
    return result


def _networks(values: Unsigned, bits: Unsigned, keys: Unsigned) -> Unsigned:
    """`Bijection._network` of each value; `bits` uint64[2, n], `keys` uint64[_ROUNDS, n]."""
    low: Unsigned = (np.uint64(1) << bits[0]) - np.uint64(1)
    high: Unsigned = (np.uint64(1) << bits[1]) - np.uint64(1)
    left, right = values >> bits[0], values & low
    for first, second in zip(keys[::2], keys[1::2], strict=True):
        left ^= _mix64_of(right ^ first) & high
        right ^= _mix64_of(left ^ second) & low
    result: Unsigned = (left << bits[0]) | right
    return result


def _mix64(value: int) -> int:
    """The finalizer of splitmix64 (Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def _mix64_of(values: Unsigned) -> Unsigned:
    """`_mix64` of an array; unsigned arrays wrap around by definition."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def quotas(mix: Mapping[str, float]) -> dict[str, int]:
    """Round weights to parts of `PERIOD` by largest remainder; they add up exactly, and no positive weight becomes 0."""
    names = [name for name, weight in mix.items() if weight > 0]
    exact = {name: mix[name] * PERIOD for name in names}
    parts = {name: max(1, int(exact[name])) for name in names}
    while (missing := PERIOD - sum(parts.values())) > 0:
        for name in sorted(names, key=lambda name: (parts[name] - exact[name], name))[:missing]:
            parts[name] += 1
    for _ in range(-missing):  # tiny weights were rounded up to 1: the largest parts pay
        parts[max(names, key=lambda name: (parts[name], name))] -= 1
    return parts


class SampleOrder:
    """The rows of one arm and one seed, in order.

    Args:
        mixes: The mixtures and their start positions, ascending from 0. Weights add up to 1.
        rows: Source name to number of packed rows.
        seed: A different seed gives a different order.
        window_rows: Size of the windows within which a source's rows are permuted; its last window may be shorter. None is the
            whole source. With a window, the first epoch's order up to the end of a whole window does not depend on rows
            appended to the source later.

    Memory: a table of `PERIOD` entries per mixture. Cost: O(log mixtures) per row at any position.

    Raises:
        ValueError: If the mixtures do not ascend from 0, or a source that is drawn from has no rows.
    """

    def __init__(self, mixes: Sequence[MixAt], rows: Mapping[str, int], seed: int, *, window_rows: int | None = None) -> None:
        self._starts = [position for position, _ in mixes]
        if not mixes or self._starts[0] != 0 or self._starts != sorted(self._starts):
            raise ValueError(f"mixtures must ascend from position 0, got positions {self._starts}")
        self.sources = tuple(dict.fromkeys(name for _, mix in mixes for name in quotas(mix)))
        empty = [name for name in self.sources if rows.get(name, 0) < 1]
        if empty:
            raise ValueError(f"no rows to draw from {', '.join(empty)}")
        self._rows = np.array([rows[name] for name in self.sources], dtype=np.int64)
        self._seed, self._window = seed, window_rows
        self._segments: list[_Segment] = []
        for start, mix in mixes:
            drawn = self._segments[-1].drawn(start) if self._segments else np.zeros(len(self.sources), dtype=np.int64)
            parts = quotas(mix)
            self._segments.append(_Segment.build(start, drawn, tuple(parts.get(name, 0) for name in self.sources)))
        self._bijections: OrderedDict[tuple[int, int, int], Bijection] = OrderedDict()

    def at(self, position: int) -> SampleId:
        """The row at a position, in plain arithmetic: the reference for `draw`.

        Raises:
            IndexError: If the position is negative.
        """
        segment = self._segment(position)
        period, offset = divmod(position - segment.start, PERIOD)
        number = int(segment.table[offset])
        drawn = int(segment.before[number]) + period * int(segment.parts[number]) + int(segment.ordinal[offset])
        rows = int(self._rows[number])
        width = self._window or rows
        epoch, index = divmod(drawn, rows)
        window, inside = divmod(index, width)
        return SampleId(self.sources[number], window * width + self._bijection(number, epoch, window)(inside))

    def draw(self, position: int, size: int) -> tuple[Integers, Integers]:
        """The rows at `position`, `position + 1`, ...: index into `sources`, and row, int64[size] each.

        Raises:
            IndexError: If the position is negative.
        """
        numbers, drawn = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
        done = 0
        while done < size:
            segment = self._segment(position + done)
            following = bisect.bisect_right(self._starts, position + done)
            end = self._starts[following] - position if following < len(self._starts) else size
            part = slice(done, min(end, size))
            numbers[part], drawn[part] = segment.draw(position + done, part.stop - done)
            done = part.stop
        return numbers, self._shuffled(numbers, drawn)

    def batch(self, position: int, size: int) -> list[SampleId]:
        """The rows at `position`, `position + 1`, ... as ids."""
        numbers, rows = self.draw(position, size)
        return [SampleId(self.sources[number], row) for number, row in zip(numbers.tolist(), rows.tolist(), strict=True)]

    def drawn(self, position: int) -> dict[str, int]:
        """Rows drawn from each source before `position`."""
        counts = self._segment(position).drawn(position)
        return dict(zip(self.sources, counts.tolist(), strict=True))

    def sequence(self, source: str, *, content: bytes) -> str:
        """Names the endless sequence of a source's rows; `content` identifies the rows themselves.

        Two orders with the same name draw the same rows of it in the same order, whatever else they draw.
        """
        facts = f"{self._seed}/{source}/{self._window}/".encode() + content
        return hashlib.blake2b(facts, digest_size=8).hexdigest()

    def realized(self, position: int, *, since: int = 0) -> dict[str, float]:
        """Share of each source in the rows drawn from `since` to before `position`; empty if there are none."""
        before, after = self.drawn(since), self.drawn(position)
        rows = position - since
        return {name: (after[name] - before[name]) / rows for name in after if after[name] > before[name]}

    def epochs(self, position: int) -> dict[str, float]:
        """Passes over each source made by the rows before `position`."""
        return {name: count / int(rows) for (name, count), rows in zip(self.drawn(position).items(), self._rows, strict=True)}

    def weights(self, position: int) -> dict[str, float]:
        """The weights in force at `position`, as drawn: rounded to parts of `PERIOD`."""
        parts = self._segment(position).parts
        return {name: part / PERIOD for name, part in zip(self.sources, parts.tolist(), strict=True) if part}

    @property
    def starts(self) -> tuple[int, ...]:
        """The start positions of the mixtures."""
        return tuple(self._starts)

    def _segment(self, position: int) -> _Segment:
        if position < 0:
            raise IndexError(f"negative position {position} in the order of samples")
        return self._segments[bisect.bisect_right(self._starts, position) - 1]

    def _shuffled(self, numbers: Integers, drawn: Integers) -> Integers:
        """The rows at indices `drawn` of the endless sequences of sources `numbers`."""
        rows = self._rows[numbers]
        width = rows if self._window is None else np.minimum(rows, self._window)
        epochs, index = np.divmod(drawn, rows)
        windows, inside = np.divmod(index, width)
        # One number per source, epoch and window; numpy's unique over columns costs five times as much.
        keys = (epochs * (int(windows.max(initial=0)) + 1) + windows) * len(self.sources) + numbers
        _, firsts, which = np.unique(keys, return_index=True, return_inverse=True)
        bijections = [self._bijection(int(numbers[i]), int(epochs[i]), int(windows[i])) for i in firsts]
        return windows * width + images_of(bijections, which, inside)

    def _bijection(self, number: int, epoch: int, window: int) -> Bijection:
        key = (number, epoch, window)
        if key not in self._bijections:
            if len(self._bijections) >= _KEPT_BIJECTIONS:
                self._bijections.popitem(last=False)
            rows = int(self._rows[number])
            width = self._window or rows
            name = f"{self._seed}/{self.sources[number]}/{epoch}" + (f"/{window}" if self._window else "")
            self._bijections[key] = Bijection(min(width, rows - window * width), name)
        return self._bijections[key]


@dataclass(frozen=True, slots=True)
class _Segment:
    """A mixture in force from `start`: `before` and `parts` int64[sources]; `table` and `ordinal` int64[PERIOD]."""

    start: int
    before: Integers
    parts: Integers
    table: Integers
    ordinal: Integers

    @classmethod
    def build(cls, start: int, before: Integers, parts: tuple[int, ...]) -> _Segment:
        return cls(start, before, np.array(parts, dtype=np.int64), *_quota_table(parts))

    def draw(self, position: int, size: int) -> tuple[Integers, Integers]:
        """Source index, and index in that source's sequence, of each position; int64[size] each."""
        periods, offsets = np.divmod(np.arange(position - self.start, position - self.start + size), PERIOD)
        numbers = self.table[offsets]
        drawn = self.before[numbers] + periods * self.parts[numbers] + self.ordinal[offsets]
        return numbers, drawn.astype(np.int64, copy=False)

    def drawn(self, position: int) -> Integers:
        """Rows drawn from each source before `position`, since the first segment."""
        period, offset = divmod(position - self.start, PERIOD)
        counts = np.bincount(self.table[:offset], minlength=len(self.parts)).astype(np.int64)
        return self.before + period * self.parts + counts


@functools.lru_cache(maxsize=64)
def _quota_table(parts: tuple[int, ...]) -> tuple[Integers, Integers]:
    """Spread sources over one period by the quota method (Balinski and Young 1975).

    Of the sources that are behind their share, the one whose next row is due first gets the slot: at no prefix is any source
    a whole row away from its share, however many sources there are. Taking the source furthest behind would not ensure that.

    Returns:
        Source index per slot [PERIOD], and how many slots of the same source precede it [PERIOD].
    """
    # A row is released in the slot where its source would fall behind without it, and is due when its source's share covers it.
    released = sorted(
        (row * PERIOD // part, (row + 1) / part, source, row) for source, part in enumerate(parts) for row in range(part)
    )
    table = np.empty(PERIOD, dtype=np.int64)
    ordinal = np.empty(PERIOD, dtype=np.int64)
    waiting: list[tuple[float, int, int]] = []
    following = 0
    for slot in range(PERIOD):
        while following < PERIOD and released[following][0] <= slot:
            heapq.heappush(waiting, released[following][1:])
            following += 1
        _, table[slot], ordinal[slot] = heapq.heappop(waiting)
    return table, ordinal
