"""File-based shuffle by key: a task writes its rows by partition, another reads one partition from every file.

Used between the stages of duplicate removal. One Arrow IPC file per writing task, with one record batch per partition. Memory:
the rows of one task when writing; the rows of one partition when reading.

Guarantee: each row is in exactly one partition, and a reader touches no other part of a file; in a store neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cpt_ray.edges import store


def write_partitions(table: pa.Table, partition: npt.NDArray[np.int64], path: Path, partitions: int) -> None:
    """Write rows to an Arrow file with one record batch per partition.

    Args:
        table: The rows, in any order.
        partition: Partition of each row, int64[rows].
        path: File to write.
        partitions: Number of partitions.
    """
    order = np.argsort(partition, kind="stable")
    borders = np.searchsorted(partition[order], np.arange(partitions + 1))
    table = table.take(pa.array(order)).combine_chunks()
    empty = pa.RecordBatch.from_pylist([], schema=table.schema)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for start, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            batches = table.slice(start, end - start).to_batches()
            writer.write_batch(batches[0] if batches else empty)


def read_partition(paths: Sequence[Path], partition: int | None) -> pa.Table:
    """Read one partition (all for None) of files written by `write_partitions`; rows are in the order of the files.

    Of a file that is in a store and not on this node, the partition's bytes and the file's index are read there.

    Raises:
        FileNotFoundError: If one is missing.
        ArtifactError: If a store refuses one.
    """

    def read(source: pa.NativeFile) -> list[pa.RecordBatch]:
        file = pa.ipc.open_file(source)
        numbers = range(file.num_record_batches) if partition is None else (partition,)
        return [file.get_batch(number) for number in numbers]

    def read_one(path: Path) -> list[pa.RecordBatch]:
        return store.part_of(path, read)

    # A store answers in tens of milliseconds.
    far = any(store.is_mirrored(path) for path in paths[:1])
    found = store.at_once(read_one, paths) if far else map(read_one, paths)
    return pa.Table.from_batches(itertools.chain.from_iterable(found))
