"""From a position to what one worker computes: rows by global index, grouped into equal numbers of micro-batches.

Any number of workers up to the rows of a global batch sees the same rows: the batch is split into blocks, and a worker with too
few rows gets rows without labels, which is exact because the loss is a sum over the global count of loss-bearing tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from cpt_ray.data.rows.shards import Integers, PackedRow, ShardReader
from cpt_ray.model.loss import IGNORED
from cpt_ray.train.order.batch_split import BatchSplit
from cpt_ray.train.order.samples import SampleId, SampleOrder


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass: concatenated rows.

    `input_ids` and `labels` are int64 [micro_batch_size * sequence_length]; `segment_lengths` adds up to that.
    """

    input_ids: Tensor
    labels: Tensor
    segment_lengths: tuple[int, ...]
    first_position: int = 0
    """Position of its first row in the order of samples, which decides its dropout."""


@dataclass(frozen=True)
class Batch:
    """One optimizer step as one worker sees it; `loss_tokens`, `slots` and `sample_ids` are global."""

    micro_batches: tuple[MicroBatch, ...]
    loss_tokens: int
    slots: int
    sample_ids: tuple[SampleId, ...]
    attended: float
    """Sum of squared segment lengths divided by the sum of lengths, for this worker's rows: mean keys are half of it."""


class BatchSource:
    """Builds any step's batch from its position alone.

    Args:
        order: The order of samples.
        reader: Packed rows by index.
        split: How a step's rows are split over the workers.
        rank: This worker.
        sequence_length: Tokens per row.
    """

    def __init__(
        self,
        order: SampleOrder,
        reader: ShardReader,
        split: BatchSplit,
        *,
        rank: int,
        sequence_length: int,
    ) -> None:
        self._order, self._reader, self._split, self._rank = order, reader, split, rank
        self._sequence_length = sequence_length
        self._filler = _unlabeled_row(self._sequence_length)

    def at(self, position: int) -> Batch:
        """The step that begins at `position`."""
        split = self._split
        numbers, rows = self._order.draw(position, split.rows)
        names = self._order.sources
        loss_tokens = sum(int(self._reader.loss_tokens(names[n], rows[numbers == n]).sum()) for n in np.unique(numbers))
        mine = slice(self._rank * split.rows_per_worker, (self._rank + 1) * split.rows_per_worker)
        read = self._read(numbers[mine], rows[mine])
        read += [self._filler] * (split.accumulation_steps * split.micro_batch - len(read))
        micro = tuple(
            join_rows(read[i : i + split.micro_batch], first_position=position + mine.start + i)
            for i in range(0, len(read), split.micro_batch)
        )
        lengths = np.array([length for batch in micro for length in batch.segment_lengths], dtype=np.float64)
        return Batch(
            micro_batches=micro,
            loss_tokens=loss_tokens,
            slots=split.rows * self._sequence_length,
            sample_ids=tuple(SampleId(names[n], row) for n, row in zip(numbers.tolist(), rows.tolist(), strict=True)),
            attended=float((lengths**2).sum() / lengths.sum()),
        )

    def _read(self, numbers: Integers, rows: Integers) -> list[PackedRow]:
        """Rows in the requested order; those of one source are read together, so that each shard is opened once."""
        found: dict[int, PackedRow] = {}
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            read = self._reader.rows(self._order.sources[number], rows[places])
            found.update(zip(places.tolist(), read, strict=True))
        return [found[place] for place in range(len(rows))]


def join_rows(rows: list[PackedRow], *, first_position: int = 0) -> MicroBatch:
    """Concatenate rows; a token's label is the next token of its segment, and a segment's last token has none."""
    tokens = np.concatenate([row.tokens for row in rows])
    labels = np.full(len(tokens), IGNORED, dtype=np.int64)
    lengths: list[int] = []
    ends: list[int] = []
    start = 0
    for row in rows:
        used, end = sum(row.segment_lengths), start + len(row.tokens)
        if row.loss_tokens:
            labels[start : start + used - 1] = tokens[start + 1 : start + used]
            ends += [start + place for place in accumulate(row.segment_lengths)]
        lengths += [*row.segment_lengths, *([len(row.tokens) - used] if used < len(row.tokens) else [])]
        start = end
    labels[np.array(ends, dtype=np.int64) - 1] = IGNORED
    return MicroBatch(
        input_ids=torch.from_numpy(tokens.astype(np.int64, copy=False)),
        labels=torch.from_numpy(labels),
        segment_lengths=tuple(lengths),
        first_position=first_position,
    )


def _unlabeled_row(sequence_length: int) -> PackedRow:
    return PackedRow(tokens=np.zeros(sequence_length, dtype=np.int64), segment_lengths=(sequence_length,), loss_tokens=0)
