"""Exchange by key through files: a task writes its rows by partition, another reads one partition out of every file.

The stages of duplicate removal hand rows to one another with it. One Arrow IPC file per writing task, a record
batch per partition. Memory: the rows of one task when writing; when reading, the rows of one partition.

Guarantee: each row lies in exactly one partition, and a reader touches no other part of a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def write_partitions(table: pa.Table, partition: npt.NDArray[np.int64], path: Path, partitions: int) -> None:
    """Write rows as one Arrow file with a record batch per partition.

    Args:
        table: The rows, in any order.
        partition: Partition of each row, int64[rows].
        path: File to write.
        partitions: How many there are.
    """
    order = np.argsort(partition, kind="stable")
    borders = np.searchsorted(partition[order], np.arange(partitions + 1))
    table = table.take(pa.array(order)).combine_chunks()
    empty = pa.RecordBatch.from_pylist([], schema=table.schema)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for start, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            batches = table.slice(start, end - start).to_batches()
            writer.write_batch(batches[0] if batches else empty)


def read_partition(paths: Iterable[Path], partition: int | None) -> pa.Table:
    """Read one partition of files that `write_partitions` wrote, or all of them for None; rows in the order of the files."""
    batches: list[pa.RecordBatch] = []
    for path in paths:
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            numbers = range(file.num_record_batches) if partition is None else (partition,)
            batches.extend(file.get_batch(number) for number in numbers)
    return pa.Table.from_batches(batches)
