"""The index of a shard: where each part of each document is, and how to get from a row back to its documents.

Alongside stage `shards`: packed pieces and document names -> `write_index`; `pieces_of_row` and `pieces_of_document` read it.
Columns (Parquet): `identity`, `document_id` (the source's id, which may repeat), `row`, `offset` (in the document), `tokens`,
`part`; the pieces of a row are in row order. Memory: one shard's index, about 20 bytes per piece plus the names.

Guarantee: the tokens of a row, and those of a document, add up to what its shard contains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpt_ray.edges import store
from cpt_ray.records import DocumentKey, PackedPieces, ShardManifest


class Placed(NamedTuple):
    """Tokens of a document in a row."""

    identity: str
    document_id: str
    """The source's own id: a label that several documents may have."""
    source: str
    unit: str
    row: int
    """Number among all rows of the source, in canonical order; the order of samples uses these numbers."""
    start: int
    """Position of the first token in the row."""
    offset: int
    """Position of the first token in the document."""
    tokens: int
    part: int


def write_index(path: Path, pieces: PackedPieces, documents: Sequence[DocumentKey]) -> None:
    """Write where each document is in a shard."""
    owner = pa.array(pieces.document)
    table = pa.table(
        {
            "identity": pa.array([document.identity for document in documents], type=pa.string()).take(owner),
            "document_id": pa.array([document.id for document in documents], type=pa.string()).take(owner),
            "row": pa.array(pieces.row.astype(np.int32)),
            "offset": pa.array(pieces.offset),
            "tokens": pa.array(pieces.tokens.astype(np.int32)),
            "part": pa.array(pieces.part.astype(np.int32)),
        }
    )
    pq.write_table(table, path, compression="zstd")


@dataclass(frozen=True)
class PackedDocuments:
    """The documents of a shard, in the order in which they were read, and where their tokens are.

    Piece p holds `sizes[p]` tokens of document `owners[p]`, from `starts[p]` on in the shard's flat tokens; the pieces of a
    document follow one another in its order.
    """

    identities: pa.StringArray
    ids: pa.StringArray
    tokens: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    """Row times 2^32, plus the position in the row: the length of a row is not in the index."""
    sizes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)

    def keys(self, chosen: npt.NDArray[np.bool_]) -> list[DocumentKey]:
        """The names of the chosen documents."""
        mask = pa.array(chosen)
        names = zip(self.identities.filter(mask).to_pylist(), self.ids.filter(mask).to_pylist(), strict=True)
        return [DocumentKey(*name) for name in names]

    def places_in(self, identities: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Where each document is in a column of identities that has them all, int64[documents]."""
        return np.asarray(pc.index_in(self.identities, value_set=identities.combine_chunks()).to_numpy(), dtype=np.int64)

    def gather(
        self, flat: npt.NDArray[np.unsignedinteger], sequence_length: int, chosen: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.int64]]:
        """Copy the tokens of the chosen documents out of a shard.

        Args:
            flat: The shard's tokens, row after row.
            sequence_length: Tokens per row.
            chosen: Which documents, bool[documents].

        Returns:
            Their tokens, document after document, and the number of tokens of each.
        """
        wanted = np.flatnonzero(chosen[self.owners])
        begins = (self.starts[wanted] >> 32) * sequence_length + (self.starts[wanted] & 0xFFFFFFFF)
        parts = [flat[b : b + s] for b, s in zip(begins.tolist(), self.sizes[wanted].tolist(), strict=True)]
        return np.concatenate([flat[:0], *parts]), self.tokens[chosen]


def read_documents_of_shard(path: Path) -> PackedDocuments:
    """Read the index of a shard by document; about 100 bytes per document."""
    table = pq.read_table(path, columns=["identity", "document_id", "row", "tokens", "part"])
    sizes, rows = table["tokens"].to_numpy().astype(np.int64), table["row"].to_numpy().astype(np.int64)
    before = np.cumsum(sizes) - sizes
    starts = (rows << 32) + before - before[np.searchsorted(rows, rows)]
    names = table["identity"].combine_chunks().dictionary_encode()
    identities, owners = names.dictionary.to_pylist(), names.indices.to_numpy()
    # `SOURCE/TASK/RECORD`: by number, not by name, so that record 10 comes after record 9.
    read = sorted(range(len(identities)), key=lambda place: tuple(int(part) for part in identities[place].split("/")[-2:]))
    rank = np.empty(len(read), dtype=np.int64)
    rank[read] = np.arange(len(read))
    order = np.lexsort((table["part"].to_numpy(), rank[owners]))
    owners, first = rank[owners][order], table["part"].to_numpy()[order] == 0
    return PackedDocuments(
        identities=table["identity"].combine_chunks().take(order[first]),
        ids=table["document_id"].combine_chunks().take(order[first]),
        tokens=np.bincount(owners, sizes[order], minlength=len(read)).astype(np.int64),
        owners=owners,
        starts=starts[order],
        sizes=sizes[order],
    )


def pieces_of_row(folder: Path, manifest: ShardManifest, source: str, row: int) -> list[Placed]:
    """The pieces of a row of a source, in row order.

    Args:
        folder: The folder that the manifest's paths are relative to.
        manifest: The shards.
        source: The source.
        row: Row number within the source.

    Raises:
        IndexError: If the source has no such row.
    """
    places = manifest.shards.places(source)
    ends = np.cumsum(manifest.shards.column("rows")[places])
    if not len(ends) or not 0 <= row < ends[-1]:
        raise IndexError(f"no row {row} in source {source}, which has {ends[-1] if len(ends) else 0} rows")
    number = int(np.searchsorted(ends, row, side="right"))
    first = int(ends[number - 1]) if number else 0
    return list(_read(folder, manifest, int(places[number]), first, pc.field("row") == row - first))


def pieces_of_document(folder: Path, manifest: ShardManifest, name: str) -> Iterator[Placed]:
    """All pieces of the documents with this id or this identity, by source and row; reads the indices one after another."""
    wanted = (pc.field("document_id") == name) | (pc.field("identity") == name)
    for source in manifest.shards.sources:
        places = manifest.shards.places(source)
        rows = manifest.shards.column("rows")[places]
        for place, first in zip(places.tolist(), (np.cumsum(rows) - rows).tolist(), strict=True):
            yield from _read(folder, manifest, place, first, wanted)


def _read(folder: Path, manifest: ShardManifest, place: int, first: int, wanted: pc.Expression) -> Iterator[Placed]:
    entry = manifest.shards[place]
    table = pq.read_table(store.fetched(folder / entry.index_path))
    tokens, rows = table["tokens"].to_numpy(), table["row"].to_numpy()
    before = np.cumsum(tokens) - tokens
    starts = before - before[np.searchsorted(rows, rows)]
    for piece in table.append_column("start", pa.array(starts)).filter(wanted).to_pylist():
        piece["row"] += first
        yield Placed(source=entry.source, unit=entry.unit, **piece)
