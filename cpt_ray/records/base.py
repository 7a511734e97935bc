"""What all records share: JSON with a stable key order, unknown keys rejected; files, columns and artifacts by content hash.

An artifact can have a million files, and a record for each would cost gigabytes. In `Columns` an entry takes what its values
take, about 100 bytes for a file, and becomes a record only when it is asked for; stored, they are an uncompressed Arrow file,
memory-mapped. An artifact lists up to `LISTED` files in its JSON; more are columns next to it (`files.arrow`: `path` string,
`size_bytes` int64, `sha256` fixed binary).

Guarantee: a table holds the entries that it was made of, in their order, whatever the number of batches they came in.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from cpt_ray.errors import ArtifactError

SourceRole = Literal["domain", "general", "probe"]
RunKind = Literal["base", "trunk", "cooldown", "chain", "independent", "trajectory", "merge"]


class Record(BaseModel):
    """Frozen data that serializes to JSON and rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    FILE: ClassVar[str]
    """File name in an artifact's folder, for kinds that have one."""

    def to_json(self) -> str:
        """Serialize with a stable key order."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse the output of `to_json`."""
        return cls.model_validate_json(text)

    @classmethod
    def of(cls, folder: str | Path) -> Self:
        """Read the record of this kind from an artifact's folder, where it is stored as `FILE`."""
        return cls.load(Path(folder) / cls.FILE)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the record stored at a local path."""
        return cls.from_json(Path(path).read_bytes())


RecordT = TypeVar("RecordT", bound=Record)


class Made(NamedTuple, Generic[RecordT]):
    """A finished artifact as input of another stage: its folder and its record."""

    folder: Path
    record: RecordT


class FileEntry(Record):
    """A file of an artifact: path relative to the artifact's folder, size and content hash."""

    path: str
    size_bytes: int
    sha256: str


EntryT = TypeVar("EntryT", bound=Record)

SHA256 = pa.binary(32)
_BATCH = 4096


class Columns(Sequence[EntryT], Generic[EntryT]):
    """Entries of one kind, held as columns; an entry is built on access."""

    ENTRY: ClassVar[type[Record]]
    """The kind; `sha256` is a field of it."""
    SCHEMA: ClassVar[pa.Schema]
    """A column for each field, hashes as 32 bytes."""

    def __init__(self, columns: pa.RecordBatch) -> None:
        self._columns = columns

    @classmethod
    def of(cls, entries: Iterable[EntryT]) -> Self:
        """Build a table from entries, in their order; only `_BATCH` of them are alive at a time."""
        left, batches = iter(entries), []
        while some := list(itertools.islice(left, _BATCH)):
            batches.append(cls.batch(some))
        return cls.joined(batches)

    @classmethod
    def joined(cls, batches: Sequence[pa.RecordBatch]) -> Self:
        """One table of several batches, in their order."""
        table = pa.Table.from_batches(batches, schema=cls.SCHEMA).unify_dictionaries().combine_chunks()
        found = table.to_batches()
        return cls(found[0] if found else pa.RecordBatch.from_pylist([], schema=cls.SCHEMA))

    @classmethod
    def batch(cls, entries: Sequence[EntryT]) -> pa.RecordBatch:
        """The columns of some entries."""
        columns = []
        for field in cls.SCHEMA:
            values = [getattr(entry, field.name) for entry in entries]
            if field.type == SHA256:
                values = [bytes.fromhex(value) for value in values]
            columns.append(pa.array(values, type=field.type))
        return pa.RecordBatch.from_arrays(columns, schema=cls.SCHEMA)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Memory-map a file written by `write`."""
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0))

    @classmethod
    def load_named(cls, record: Path, columns: FileEntry) -> Self:
        """Memory-map the columns that a record names, which lie next to it.

        Raises:
            ArtifactError: If they are missing, or are not the ones that it names.
        """
        path = record.parent / columns.path
        fix = f"delete {path.parent} and re-run the same command; it will be rebuilt"
        if not path.is_file():
            raise ArtifactError(f"{path}: missing, but {record.name} names it", fix=fix)
        with path.open("rb") as stream:
            seen = hashlib.file_digest(stream, "sha256").hexdigest()
        if seen != columns.sha256:
            raise ArtifactError(f"{path}: sha256 {seen[:12]}, but {record.name} says {columns.sha256[:12]}", fix=fix)
        return cls.load(path)

    def write(self, path: Path) -> None:
        """Write the columns to a file."""
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self.SCHEMA) as writer:
            writer.write_batch(self._columns)

    def __len__(self) -> int:
        return int(self._columns.num_rows)

    @overload
    def __getitem__(self, index: int) -> EntryT: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> EntryT | Self:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"entry {index} of {len(self)}")
        return next(self._entries(self._columns.slice(index % len(self), 1)))

    def __iter__(self) -> Iterator[EntryT]:
        for start in range(0, len(self), _BATCH):
            yield from self._entries(self._columns.slice(start, _BATCH))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} entries)"

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """One count for every entry, int64[entries]; a view of the mapped file."""
        values: npt.NDArray[np.int64] = self._columns.column(name).to_numpy()
        return values

    def arrow(self, name: str) -> pa.Array:
        """A column as Arrow holds it."""
        return self._columns.column(name)

    def total(self, name: str) -> int:
        """The sum of a count over all entries."""
        return int(self.column(name).sum())

    def take(self, places: npt.NDArray[np.int64]) -> Self:
        """The entries at some places."""
        return type(self)(self._columns.take(pa.array(places)))

    def _entries(self, columns: pa.RecordBatch) -> Iterator[EntryT]:
        for row in columns.to_pylist():
            yield self.ENTRY(**{**row, "sha256": row["sha256"].hex()})  # type: ignore[misc]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._accept,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda table: [e.model_dump() for e in table]),
        )

    @classmethod
    def _accept(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"expected entries of {cls.ENTRY.__name__}")
        return cls.of(cls.ENTRY.model_validate(entry) for entry in value)  # type: ignore[misc]


LISTED = 1000
"""Files that a person may want to read in `artifact.json`: as JSON, 10^6 would be 200 MB."""


class FileTable(Columns[FileEntry]):
    """The files of an artifact."""

    ENTRY = FileEntry
    SCHEMA = pa.schema([("path", pa.string()), ("size_bytes", pa.int64()), ("sha256", SHA256)])


class Artifact(Record):
    """The last file written into an artifact's folder: if it exists, the artifact is complete.

    `inputs` maps the name of each input to its fingerprint: the chain from raw file to score.
    """

    FILE = "artifact.json"
    COLUMNS: ClassVar[str] = "files.arrow"

    stage: str
    name: str
    fingerprint: str
    inputs: dict[str, str]
    settings: dict[str, object]
    files: FileTable
    """Empty in the JSON if `columns` names them."""
    columns: FileEntry | None = None
    """The file of columns that holds `files`, if they are many."""
    wall_s: float
    created: str
    versions: dict[str, str]

    @classmethod
    def load(cls, path: str | Path, fetched: Callable[[Path], Path] = Path) -> Self:
        """Read the record at a local path, and memory-map its files if they are columns.

        Args:
            path: The JSON.
            fetched: Brings the columns here, of an artifact in a bucket.

        Raises:
            ArtifactError: If the columns are missing, or are not the ones that the record names.
        """
        path = Path(path)
        head = super().load(path)
        if head.columns is None:
            return head
        fetched(path.parent / head.columns.path)
        return head.model_copy(update={"files": FileTable.load_named(path, head.columns)})

    def head(self, columns: FileEntry) -> Self:
        """What is JSON of an artifact whose files are the columns in a file."""
        return self.model_copy(update={"files": FileTable.of(()), "columns": columns})
