"""Pin the raw files that a unit was read from, and detect later whether they have changed.

Part of stage `read`. Out: a Parquet file per unit: `path`, `size_bytes`, `version`, `start`, `end`, `sha256`. A local file, or
a member of a local archive, is hashed, in a second pass from the page cache at over 1 GB/s, because a modification time proves
nothing; elsewhere the version (an ETag, a time set by every write, a commit) has to suffice, as it does if `limit_documents`
reads only part of a file. Memory: one entry per file of a unit.

Guarantee: a local file whose bytes changed is detected, regardless of its size and modification time.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.plan import ReadTask, source_files
from cpt_ray.data.read.reading import check_unchanged
from cpt_ray.edges import store
from cpt_ray.edges.redaction import redact_uris
from cpt_ray.edges.source_files import is_local, open_source, source_version, split_chain
from cpt_ray.errors import DataError
from cpt_ray.records import UnitFileTable, UnitReport

FOLDER = "inputs"
_CHUNK = 1 << 20
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("version", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("sha256", pa.string()),
    ]
)


def pin_inputs(task: ReadTask, source: SourceConfig) -> pa.Table:
    """Describe the input of a unit: a row per file or part of a file, in canonical order.

    Raises:
        DataError: If a file was written to since it was listed.
    """
    rows = []
    for part in (part for part in task.parts if part.left_out is None):
        end = part.size_bytes if part.end is None else part.end
        digest = _digest(part.path, part.start, end) if source.limit_documents is None else None
        row = part.model_dump(include={"path", "size_bytes", "version", "start"})
        # Only shown later: a file is opened again under the path of the study file, which holds its credentials.
        rows.append({**row, "path": redact_uris(part.path), "end": end, "sha256": digest})
        check_unchanged(part, source.name)
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def write_inputs(table: pa.Table, path: Path) -> None:
    """Write what `pin_inputs` returned."""
    pq.write_table(table, path, compression="zstd")


def _digest(path: str, start: int, end: int) -> str | None:
    """SHA-256 of a range of a local file, or of a whole member of a local archive; None for anything else."""
    if is_local(path):
        with open(path, "rb") as file:
            return _hash(file, start, end)
    if not is_local(split_chain(path)[-1]):
        return None
    with open_source(path) as member:
        return _hash(member, 0, sys.maxsize)


def _hash(stream: Any, start: int, end: int) -> str:
    digest, left = hashlib.sha256(), end - start
    if start:
        stream.seek(start)
    while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def check_inputs(folder: Path, source: SourceConfig, *, deep: bool = False) -> None:
    """Compare a source's files with those that a finished artifact was read from.

    The artifact's name already covers file names and sizes. If the version matches too, a file counts as unchanged unless
    `deep` is set; if not, the content decides. A corpus that was copied elsewhere is hashed again and found to be the same.

    Args:
        folder: The artifact's folder.
        source: The source.
        deep: Hash every file that has a pinned hash.

    Raises:
        DataError: Naming the first file that changed.
    """
    present = iter(source_files(source)[1])
    path, version = "", None
    for row in _pinned_rows(folder, source):
        if row["start"] == 0:  # the parts of a file are consecutive and ascend, and files are in listing order
            file = next(present, None)
            path = file.path if file else row["path"]
            version = source_version(path)
        same = version is None or version == row["version"]
        if same and not deep:
            continue
        if row["sha256"] is not None and (digest := _digest(path, row["start"], row["end"])) is not None:
            same = digest == row["sha256"]
        if not same:
            raise DataError(
                f"source {source.name}: {path} has changed since {folder.name} was made from it, though not in name or size",
                fix=f"delete {folder} and re-run the same command to prepare the new text, or restore the old file",
            )


def _pinned_rows(folder: Path, source: SourceConfig) -> Iterator[dict[str, Any]]:
    # The names of sources may look alike: that of `law-read-1` begins with that of `law`.
    own = re.compile(rf"{re.escape(source.name)}-read-[0-9]+")
    paths = [path for unit, path in _pins(folder) if own.fullmatch(unit)]
    for path in store.fetched_files(folder / path for path in paths):
        # `read_table` takes a millisecond per file, and there may be ten thousand.
        yield from pq.ParquetFile(path).read().to_pylist()


def _pins(folder: Path) -> list[tuple[str, str]]:
    """Unit and file of pins, in canonical order: from the list that the stage left, else from the units' reports."""
    listed = store.fetched(folder / "units" / "read.arrow")
    if listed.is_file():
        table = UnitFileTable.load(listed).of_kind(FOLDER)
        return list(zip(table.arrow("unit").to_pylist(), table.arrow("path").to_pylist(), strict=True))
    store.fetched_folder(folder / "units" / "read")
    paths = sorted((folder / "units" / "read").glob("*-read-*.json"), key=lambda path: (len(path.name), path.name))
    return [(path.stem, UnitReport.load(path).path(FOLDER)) for path in paths]
