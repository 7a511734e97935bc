"""The record of an artifact, and its files: up to `LISTED` are in the JSON, more are columns in a file next to it.

Columns of `files.arrow`: `path` string, `size_bytes` int64, `sha256` fixed binary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

import pyarrow as pa

from cpt_ray.records.base import FileEntry, Record
from cpt_ray.records.columns import SHA256, Columns

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
