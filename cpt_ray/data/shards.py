"""Shards: the packed rows of a unit in one file, and the reader that training opens.

Flow: rows of pieces and flat tokens -> `write_shard`, `write_index`; folder and manifest -> `ShardReader.rows`.
Columns of a shard (uncompressed Arrow IPC, one record batch): `tokens` fixed_size_list<uint16|uint32>[T], `segment_lengths`
list<int32> with sum <= T, `loss_tokens` int32; what follows the last segment is padding, filled with the separator. Columns of
its index (Parquet): `document_id`, `row`, `offset` (in the document), `tokens`, `part`. Memory: the writer holds a unit's rows;
the reader maps files and holds nothing per row or document.

Guarantee: a reader returns exactly the rows whose hash stands in the manifest, or refuses the shard.
"""

from __future__ import annotations

import bisect
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.edges import storage
from cpt_ray.records import FileEntry, ShardEntry, ShardManifest

FORMAT_VERSION = 1
_OPEN_SHARDS = 128

Piece: TypeAlias = tuple[int, int, int, int]
"""Document, offset in the document, tokens, part number."""


@dataclass(frozen=True, slots=True)
class PackedRow:
    """One row of a shard: tokens int64[T], the lengths of its segments, and how many tokens carry loss."""

    tokens: npt.NDArray[np.int64]
    segment_lengths: tuple[int, ...]
    loss_tokens: int


def write_shard(
    path: Path,
    rows: Sequence[Sequence[Piece]],
    tokens: npt.NDArray[np.unsignedinteger],
    starts: npt.NDArray[np.int64],
    *,
    sequence_length: int,
    separator_id: int,
) -> None:
    """Write the rows of a unit.

    Args:
        path: File to write.
        rows: Pieces of each row, in order.
        tokens: Flat tokens of the unit's documents; their type becomes the column's.
        starts: Where each document begins in `tokens`.
        sequence_length: T.
        separator_id: Fills the padding.
    """
    table = np.full((len(rows), sequence_length), separator_id, dtype=tokens.dtype)
    for number, row in enumerate(rows):
        at = 0
        for document, offset, length, _ in row:
            begin = int(starts[document]) + offset
            table[number, at : at + length] = tokens[begin : begin + length]
            at += length
    segments = np.array([piece[2] for row in rows for piece in row], dtype=np.int32)
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    loss = np.array([sum(piece[2] - 1 for piece in row) for row in rows], dtype=np.int32)
    columns = {
        "tokens": pa.FixedSizeListArray.from_arrays(pa.array(table.reshape(-1)), sequence_length),
        "segment_lengths": pa.ListArray.from_arrays(pa.array(borders), pa.array(segments)),
        "loss_tokens": pa.array(loss),
    }
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def write_index(path: Path, rows: Sequence[Sequence[Piece]], document_ids: Sequence[str]) -> None:
    """Write which document lies where in a shard: the way back from a row to the raw text."""
    pieces = [(number, piece) for number, row in enumerate(rows) for piece in row]
    table = pa.table(
        {
            "document_id": pa.array([document_ids[piece[0]] for _, piece in pieces], type=pa.string()),
            "row": pa.array([number for number, _ in pieces], type=pa.int32()),
            "offset": pa.array([piece[1] for _, piece in pieces], type=pa.int64()),
            "tokens": pa.array([piece[2] for _, piece in pieces], type=pa.int32()),
            "part": pa.array([piece[3] for _, piece in pieces], type=pa.int32()),
        }
    )
    pq.write_table(table, path, compression="zstd")


class ShardReader:
    """Reads rows by their number within a source, from memory-mapped shards.

    Args:
        folder: The folder that the manifest's paths are relative to.
        manifest: The shards in canonical order.
        verify: Whether each shard's content hash is checked when it is first opened; existence and size always are.

    Raises:
        ArtifactError: If a shard is missing or has another size (at once), or another content (at its first row).
    """

    def __init__(self, folder: Path, manifest: ShardManifest, *, verify: bool = True) -> None:
        self._folder = folder
        self._manifest = manifest
        self._verify = verify
        self._verified: set[str] = set()
        self._open: OrderedDict[str, _Shard] = OrderedDict()
        self._shards: dict[str, list[ShardEntry]] = {}
        for entry in manifest.shards:
            self._shards.setdefault(entry.source, []).append(entry)
        # Row number at which each shard of a source ends: the shard of row j is found by bisection.
        self._ends = {name: list(itertools.accumulate(e.rows for e in entries)) for name, entries in self._shards.items()}
        storage.verify_files(folder, [_file_entry(entry) for entry in manifest.shards], deep=False)

    def num_rows(self, source: str) -> int:
        """Rows of a source."""
        return self._ends[source][-1] if source in self._ends else 0

    def rows(self, source: str, indices: Sequence[int]) -> list[PackedRow]:
        """Read rows of a source by number, in the order asked for.

        Raises:
            ArtifactError: If a shard's content contradicts the manifest.
            IndexError: If a number is negative or not below the source's rows.
        """
        found = []
        for index in indices:
            shard, row = self._locate(source, int(index))
            found.append(shard.row(row))
        return found

    def loss_tokens(self, source: str, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """Loss-bearing tokens of rows by number, int64[len(indices)]; touches no tokens.

        Raises:
            ArtifactError: If a shard's content contradicts the manifest.
            IndexError: If a number is negative or not below the source's rows.
        """
        result = np.empty(len(indices), dtype=np.int64)
        for place, index in enumerate(indices):
            shard, row = self._locate(source, int(index))
            result[place] = shard.loss[row]
        return result

    def _locate(self, source: str, index: int) -> tuple[_Shard, int]:
        if not 0 <= index < self.num_rows(source):
            raise IndexError(f"row {index} of source {source}, which has {self.num_rows(source)} rows")
        number = bisect.bisect_right(self._ends[source], index)
        before = self._ends[source][number - 1] if number else 0
        return self._shard(self._shards[source][number]), index - before

    def _shard(self, entry: ShardEntry) -> _Shard:
        if entry.path in self._open:
            self._open.move_to_end(entry.path)
            return self._open[entry.path]
        if self._verify and entry.path not in self._verified:
            storage.verify_files(self._folder, [_file_entry(entry)], deep=True)
            self._verified.add(entry.path)
        if len(self._open) >= _OPEN_SHARDS:  # each holds a file descriptor
            self._open.popitem(last=False)
        shard = self._open[entry.path] = _Shard(self._folder / entry.path, self._manifest.sequence_length)
        return shard


class _Shard:
    """A memory-mapped shard, seen through arrays without a copy."""

    def __init__(self, path: Path, sequence_length: int) -> None:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        tokens, segments = batch.column("tokens"), batch.column("segment_lengths")
        self.loss: npt.NDArray[np.int32] = batch.column("loss_tokens").to_numpy()
        self._tokens: npt.NDArray[Any] = tokens.values.to_numpy().reshape(-1, sequence_length)
        self._borders: npt.NDArray[np.int32] = segments.offsets.to_numpy()
        self._segments: npt.NDArray[np.int32] = segments.values.to_numpy()

    def row(self, index: int) -> PackedRow:
        segments = self._segments[self._borders[index] : self._borders[index + 1]]
        return PackedRow(
            tokens=self._tokens[index].astype(np.int64),
            segment_lengths=tuple(segments.tolist()),
            loss_tokens=int(self.loss[index]),
        )


def _file_entry(entry: ShardEntry) -> FileEntry:
    return FileEntry(path=entry.path, size_bytes=entry.size_bytes, sha256=entry.sha256)
