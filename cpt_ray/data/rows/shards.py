"""Shards: the packed rows of a unit in one file, and the reader that training opens.

Flow: packed pieces and flat tokens -> `write_shard`; folder and manifest -> `ShardReader.rows`.
Columns of a shard (uncompressed Arrow IPC, one record batch): `tokens` fixed_size_list<uint16|uint32>[T], `segment_lengths`
list<int32> with sum <= T, `loss_tokens` int32; everything after the last segment is padding, filled with the separator. Columns
of its index (Parquet): `identity`, `document_id`, `row`, `offset` (in the document), `tokens`, `part`. Memory: the writer holds
a unit's rows; the reader maps files and holds nothing per row or document.

Guarantee: a reader returns exactly the rows whose hash is in the manifest, or refuses the shard.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cpt_ray.edges import storage, store
from cpt_ray.records import FileEntry, Made, PackedPieces, ShardManifest, ShardTable

FORMAT_VERSION = 4
COLUMNS = "shards.arrow"
"""File with the entries of a manifest, next to its head."""
_OPEN_SHARDS = 128
_MEASURED_SHARDS = 64
"""Shards of a source that a mean is measured on."""

Integers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PackedRow:
    """One row of a shard: tokens int64[T], the lengths of its segments, and the number of tokens that carry loss."""

    tokens: npt.NDArray[np.int64]
    segment_lengths: tuple[int, ...]
    loss_tokens: int


def write_shard(
    path: Path,
    pieces: PackedPieces,
    tokens: npt.NDArray[np.unsignedinteger],
    starts: npt.NDArray[np.int64],
    *,
    sequence_length: int,
    separator_id: int,
) -> None:
    """Write the rows of a unit.

    Args:
        path: File to write.
        pieces: The pieces of each row.
        tokens: Flat tokens of the unit's documents; their dtype becomes that of the column.
        starts: Where each document begins in `tokens`.
        sequence_length: T.
        separator_id: Token that fills the padding.
    """
    table = lay_out(pieces, tokens, starts, sequence_length=sequence_length, filler=separator_id)
    columns = {
        "tokens": pa.FixedSizeListArray.from_arrays(pa.array(table), sequence_length),
        "segment_lengths": pa.ListArray.from_arrays(
            pa.array(pieces.borders.astype(np.int32)), pa.array(pieces.tokens.astype(np.int32))
        ),
        "loss_tokens": pa.array(np.add.reduceat(pieces.tokens - 1, pieces.borders[:-1]).astype(np.int32)),
    }
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def lay_out(
    pieces: PackedPieces,
    tokens: npt.NDArray[np.unsignedinteger],
    starts: npt.NDArray[np.int64],
    *,
    sequence_length: int,
    filler: int,
) -> npt.NDArray[np.unsignedinteger]:
    """Copy tokens to their packed positions.

    Args:
        pieces: The pieces of each row.
        tokens: Flat tokens of the documents.
        starts: Where each document begins in `tokens`.
        sequence_length: T.
        filler: Token for positions without a piece.

    Returns:
        Tokens of all rows, [rows * T], with the dtype of `tokens`.
    """
    table = np.full(pieces.num_rows * sequence_length, filler, dtype=tokens.dtype)
    begins = (starts[pieces.document] + pieces.offset).tolist()
    before = np.cumsum(pieces.tokens) - pieces.tokens
    counts = np.diff(pieces.borders)
    targets = before + np.repeat(np.arange(pieces.num_rows) * sequence_length - before[pieces.borders[:-1]], counts)
    # A loop over slices: gathering by an index of every token takes four times as long.
    for target, begin, size in zip(targets.tolist(), begins, pieces.tokens.tolist(), strict=True):
        table[target : target + size] = tokens[begin : begin + size]
    return table


def save_manifest(path: Path, manifest: ShardManifest) -> None:
    """Write a manifest for `ShardManifest.load(path)`: the columns first, then the head that names them."""
    columns = path.with_name(COLUMNS)
    with storage.atomic_path(columns) as temporary:
        manifest.shards.write(temporary)
    storage.write_atomic(path, manifest.head(storage.file_entry(path.parent, columns)).to_json())


def join_manifests(first: Made[ShardManifest], others: Sequence[Made[ShardManifest]]) -> Made[ShardManifest]:
    """The shards of several artifacts of one tokenizer as one manifest, with paths relative to the first one's folder."""
    if not others:
        return first
    tables = [first.record.shards, *(made.record.shards.below(os.path.relpath(made.folder, first.folder)) for made in others)]
    reports = (*first.record.reports, *(report for _, manifest in others for report in manifest.reports))
    return Made(first.folder, first.record.model_copy(update={"shards": ShardTable.of_tables(tables), "reports": reports}))


class ShardReader:
    """Reads rows by number within a source from memory-mapped shards.

    Args:
        folder: The folder that the manifest's paths are relative to.
        manifest: The shards in canonical order.
        verify: Whether a shard's content hash is checked when it is first opened; existence and size always are.

    Memory: 16 bytes per shard, and `_OPEN_SHARDS` open maps. No shard is opened before its first row is read, so startup
    costs the same for a million shards as for ten; files missing before a run are detected by the artifact's check.
    """

    def __init__(self, folder: Path, manifest: ShardManifest, *, verify: bool = True) -> None:
        self._folder = folder
        self._manifest = manifest
        self._verify = verify
        self._verified = np.zeros(len(manifest.shards), dtype=bool)
        self._open: OrderedDict[int, _Shard] = OrderedDict()
        rows = manifest.shards.column("rows")
        self._places = {source: manifest.shards.places(source) for source in manifest.shards.sources}
        # Row number at which each shard of a source ends; the shard of row j is found by bisection.
        self._ends = {source: np.cumsum(rows[places]) for source, places in self._places.items()}

    def num_rows(self, source: str) -> int:
        """Rows of a source."""
        return int(self._ends[source][-1]) if source in self._ends else 0

    def rows(self, source: str, indices: Sequence[int] | Integers) -> list[PackedRow]:
        """Read rows of a source by number, in the requested order; a shard is opened once for all of its rows.

        Raises:
            ArtifactError: If a shard is missing, or contradicts the manifest.
            IndexError: If a number is negative or not below the number of rows in the source.
        """
        found: list[PackedRow | None] = [None] * len(indices)
        for shard, rows, asked in self._located(source, indices):
            for row, place in zip(rows.tolist(), asked.tolist(), strict=True):
                found[place] = shard.row(row)
        return [row for row in found if row is not None]

    def loss_tokens(self, source: str, indices: Sequence[int] | Integers) -> Integers:
        """Number of loss-bearing tokens of rows by number, int64[len(indices)]; does not read the tokens.

        Raises:
            ArtifactError: If a shard is missing, or contradicts the manifest.
            IndexError: If a number is negative or not below the number of rows in the source.
        """
        result = np.empty(len(indices), dtype=np.int64)
        for shard, rows, asked in self._located(source, indices):
            result[asked] = shard.loss[rows]
        return result

    def loss_of_shard(self, source: str, number: int) -> Integers:
        """Number of loss-bearing tokens of each row in the numbered shard of a source, int64[rows of the shard].

        Raises:
            ArtifactError: If the shard is missing, or contradicts the manifest.
        """
        return self._shard(int(self._places[source][number])).loss.astype(np.int64)

    def mean_keys(self, source: str) -> float:
        """Mean keys that a slot of a source attends to: sum(l^2) / (2 * slots) over segments and padding, as training counts.

        Reads lengths, not tokens; of a source with more than `_MEASURED_SHARDS` shards, that many, evenly spaced.

        Raises:
            ArtifactError: If a shard is missing, or contradicts the manifest.
        """
        length, places = self._manifest.sequence_length, self._places.get(source, ())
        some = places[:: max(1, -(-len(places) // _MEASURED_SHARDS))]
        found = [self._shard(int(place)).squares_and_rows(length) for place in some]
        return sum(squares for squares, _ in found) / (2 * length * max(1, sum(rows for _, rows in found)))

    def _located(self, source: str, indices: Sequence[int] | Integers) -> Iterator[tuple[_Shard, Integers, Integers]]:
        """For each shard needed: the shard, row numbers within it, and their positions in `indices`."""
        wanted = np.asarray(indices, dtype=np.int64)
        outside = np.flatnonzero((wanted < 0) | (wanted >= self.num_rows(source)))
        if len(outside):
            raise IndexError(f"no row {wanted[outside[0]]} in source {source}, which has {self.num_rows(source)} rows")
        if not len(wanted):
            return
        ends = self._ends[source]
        numbers = np.searchsorted(ends, wanted, side="right")
        starts = np.where(numbers > 0, ends[numbers - 1], 0)
        order = np.argsort(numbers, kind="stable")
        borders = np.flatnonzero(np.diff(numbers[order])) + 1
        for asked in np.split(order, borders):
            shard = self._shard(int(self._places[source][numbers[asked[0]]]))
            yield shard, wanted[asked] - starts[asked], asked

    def _shard(self, place: int) -> _Shard:
        if place in self._open:
            self._open.move_to_end(place)
            return self._open[place]
        entry = self._manifest.shards[place]
        path = store.fetched(self._folder / entry.path)
        if not self._verified[place]:
            file = FileEntry(path=entry.path, size_bytes=entry.size_bytes, sha256=entry.sha256)
            storage.verify_files(self._folder, [file], deep=self._verify or store.is_mirrored(path))
            self._verified[place] = True
        if len(self._open) >= _OPEN_SHARDS:  # each holds a file descriptor
            self._open.popitem(last=False)
        shard = self._open[place] = _Shard(path, self._manifest.sequence_length)
        return shard


class _Shard:
    """A memory-mapped shard, exposed as zero-copy arrays."""

    def __init__(self, path: Path, sequence_length: int) -> None:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        tokens, segments = batch.column("tokens"), batch.column("segment_lengths")
        self.loss: npt.NDArray[np.int32] = batch.column("loss_tokens").to_numpy()
        self._tokens: npt.NDArray[Any] = tokens.values.to_numpy().reshape(-1, sequence_length)
        self._borders: npt.NDArray[np.int32] = segments.offsets.to_numpy()
        self._segments: npt.NDArray[np.int32] = segments.values.to_numpy()

    def squares_and_rows(self, sequence_length: int) -> tuple[int, int]:
        """Sum of squared lengths of segments and padding, and number of rows."""
        lengths = self._segments.astype(np.int64)
        sums = np.concatenate([[0], np.cumsum(lengths)])
        padding = sequence_length - np.diff(sums[self._borders])
        return int((lengths**2).sum() + (padding**2).sum()), len(padding)

    def row(self, index: int) -> PackedRow:
        segments = self._segments[self._borders[index] : self._borders[index + 1]]
        return PackedRow(
            tokens=self._tokens[index].astype(np.int64),
            segment_lengths=tuple(segments.tolist()),
            loss_tokens=int(self.loss[index]),
        )
