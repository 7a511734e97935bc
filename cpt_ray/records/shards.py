"""Records of packed text: a shard, the table of all shards, and the manifest that training reads.

A study can have a million shards, so a manifest is two files: a small JSON head, and the shards' entries as columns
(`Columns`) in a file next to it, which the head names with its hash: `path`, `index_path`, `unit` string, `source`
dictionary, `sha256` fixed binary, all counts int64. `benchmarks/train/order.py` measures it at a million.

Guarantee: a manifest whose columns are not the ones its head was written with is rejected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.records.base import SHA256, Columns, FileEntry, Record
from cpt_ray.records.data import StageReport
from cpt_ray.records.model import TextTokens

_Integers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PackedPieces:
    """Which tokens are in which row: consecutive tokens of documents, row by row, int64[pieces] each.

    Row r holds the pieces from `borders[r]` up to, but not including, `borders[r + 1]`; `borders` is int64[rows + 1].
    """

    document: _Integers
    """Index of the document within its unit."""
    offset: _Integers
    """Where the piece begins in its document."""
    tokens: _Integers
    part: _Integers
    """Index of the piece within a document that was cut, from 0."""
    borders: _Integers

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.borders) - 1

    @property
    def row(self) -> _Integers:
        """The row of each piece."""
        return np.repeat(np.arange(self.num_rows), np.diff(self.borders))

    def columns(self) -> tuple[_Integers, _Integers, _Integers, _Integers]:
        """`document`, `offset`, `tokens` and `part`."""
        return self.document, self.offset, self.tokens, self.part


class ShardEntry(Record):
    """One shard: the packed rows of one unit.

    `tokens` counts tokenizer tokens, separators and BOS tokens; `slots = rows * sequence_length = tokens + padding`;
    `loss_tokens = tokens - segments`, because the first token of a segment has no label.
    """

    path: str
    index_path: str
    source: str
    unit: str
    sha256: str
    size_bytes: int
    rows: int
    documents: int
    cut_documents: int
    tokenizer_tokens: int
    separator_tokens: int
    bos_tokens: int = 0
    tokens: int
    segments: int
    padding: int
    loss_tokens: int
    control_spellings: int = 0
    """Control tokens that documents spell in their text, and that were encoded as text."""


_TYPES = {
    "path": pa.string(),
    "index_path": pa.string(),
    "source": pa.dictionary(pa.int32(), pa.string()),
    "unit": pa.string(),
    "sha256": SHA256,
}


class ShardTable(Columns[ShardEntry]):
    """The entries of all shards in canonical order."""

    ENTRY = ShardEntry
    SCHEMA = pa.schema([(name, _TYPES.get(name, pa.int64())) for name in ShardEntry.model_fields])

    def __repr__(self) -> str:
        return f"ShardTable({len(self)} shards of {', '.join(self.sources)})"

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that have shards, in order of first appearance."""
        codes, names = self._source_codes()
        _, firsts = np.unique(codes, return_index=True)
        return tuple(names[codes[first]] for first in sorted(firsts.tolist()))

    def places(self, source: str) -> npt.NDArray[np.int64]:
        """The indices of one source's shards, int64[shards of the source], ascending."""
        codes, names = self._source_codes()
        return np.flatnonzero(codes == names.index(source)) if source in names else np.empty(0, dtype=np.int64)

    def of_source(self, source: str) -> ShardTable:
        """The shards of one source, in canonical order."""
        return self.take(self.places(source))

    @classmethod
    def of_tables(cls, tables: Sequence[ShardTable]) -> ShardTable:
        """The shards of several tables, in their order."""
        return cls.joined([table._columns for table in tables])

    def below(self, folder: str) -> ShardTable:
        """The same shards, with paths relative to where `folder` is relative to."""
        paths = {name: pc.binary_join_element_wise(folder, self.arrow(name), "/") for name in ("path", "index_path")}
        columns = [paths.get(name, self.arrow(name)) for name in self.SCHEMA.names]
        return ShardTable(pa.RecordBatch.from_arrays(columns, schema=self.SCHEMA))

    @property
    def content(self) -> bytes:
        """Identifies the rows of all shards, in their order."""
        digest = hashlib.blake2b(digest_size=16)
        for shard in self._columns.column("sha256").to_pylist():
            digest.update(shard)
        return digest.digest()

    @property
    def padding_share(self) -> float:
        """Padding as a share of row slots."""
        slots = self.total("tokens") + self.total("padding")
        return self.total("padding") / slots if slots else 0.0

    @property
    def segments_per_row(self) -> float:
        """Mean number of documents, or parts of cut documents, per row."""
        rows = self.total("rows")
        return self.total("segments") / rows if rows else 0.0

    def _source_codes(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        column = self._columns.column("source")
        return column.indices.to_numpy(), column.dictionary.to_pylist()


class _Head(Record):
    """The fields of both forms of a manifest."""

    format_version: int
    sequence_length: int
    vocabulary_size: int
    token_dtype: str
    separator_id: int
    """Written after every document, and used as padding."""
    bos_id: int | None = None
    """Written before every document; None if there is none."""
    around: TextTokens | None = None
    """The tokens with these ids, as spelled."""
    tokenizer_sha256: str
    reports: tuple[StageReport, ...]
    task_pids: dict[str, tuple[int, ...]]
    """Stage name to the distinct processes that ran its tasks."""
    samples: tuple[dict[str, str], ...] = ()
    """A few documents that were dropped by token rules."""

    @property
    def prefix_id(self) -> int:
        """The token before a document that is scored alone, as in training: BOS, else the previous document's separator."""
        return self.separator_id if self.bos_id is None else self.bos_id


class ShardManifestHead(_Head):
    """A manifest as stored: the file of columns replaces the entries."""

    shards: FileEntry


class ShardManifest(_Head):
    """All shards of a study for one tokenizer, in canonical order; `data.shards.save_manifest` writes it."""

    FILE = "manifest.json"

    shards: ShardTable

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the head at `path`, and memory-map the columns next to it.

        Raises:
            ArtifactError: If the columns are missing, or are not the ones that the head names.
        """
        path = Path(path)
        head = ShardManifestHead.load(path)
        fields = {name: getattr(head, name) for name in _Head.model_fields}
        return cls(**fields, shards=ShardTable.load_named(path, head.shards))

    def head(self, columns: FileEntry) -> ShardManifestHead:
        """The part of the manifest that is JSON."""
        return ShardManifestHead(**{name: getattr(self, name) for name in _Head.model_fields}, shards=columns)

    def of_source(self, source: str) -> ShardTable:
        """The shards of one source, in canonical order."""
        return self.shards.of_source(source)

    def rows(self, source: str) -> int:
        """Packed rows of one source."""
        return int(self.shards.column("rows")[self.shards.places(source)].sum())

    def loss_tokens(self, source: str) -> int:
        """Loss-bearing tokens of one source: one epoch of it."""
        return int(self.shards.column("loss_tokens")[self.shards.places(source)].sum())
