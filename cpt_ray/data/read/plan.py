"""From a source to tasks: list its files and split the large ones.

Part of stage `read`; runs on the driver. In: a source. Out: `ReadTask`s. Memory: one entry per file, byte range or run of row
groups; only the footers of large Parquet files are read.

Guarantee: tasks depend only on the files and `unit_bytes`, and record the size and version of each file as listed.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import SourceConfig, SourceFormat
from cpt_ray.edges.source_files import COMPRESSED, SourceFile, list_source_files, open_source
from cpt_ray.errors import DataError
from cpt_ray.records import Record


class ReadPart(Record):
    """A file, a byte range of a JSON-lines file, or some row groups of a Parquet file and the byte range that they span.

    `size_bytes` and `version` are those of the whole file, as listed.
    """

    path: str
    size_bytes: int
    version: str
    start: int = 0
    end: int | None = None
    row_groups: tuple[int, ...] | None = None


class ReadTask(Record):
    """Consecutive parts of a source that one task reads in order."""

    index: int
    format: SourceFormat
    parts: tuple[ReadPart, ...]


def source_files(source: SourceConfig) -> tuple[SourceFormat, list[SourceFile]]:
    """The format of a source and its files in canonical order: by path, or as a dataset lists them.

    Raises:
        DataError: If no file matches, or a dataset cannot be found.
    """
    if source.dataset is not None:
        from cpt_ray.edges.hub import resolve_dataset

        found = resolve_dataset(source.dataset)
        return source.format or found.format, found.files
    if source.format is None:
        raise DataError(f"source {source.name} has no format", fix="set its format")
    return source.format, sorted({file for uri in source.path for file in list_source_files(uri)})


def plan_reads(source: SourceConfig, unit_bytes: int) -> list[ReadTask]:
    """Cut a source into tasks of about `unit_bytes` of input.

    Small files are grouped; uncompressed JSON lines are split by byte ranges and Parquet by row groups; other formats,
    compressed files and archive members are never split. With `limit_documents`, the source is one task, so that the limit
    applies in canonical order.

    Args:
        source: The source.
        unit_bytes: Input bytes per task, at least one file, range or row group.

    Returns:
        Tasks in canonical order: by path, then by position in the file.

    Raises:
        DataError: If no file matches, or a large Parquet file has no footer.
    """
    file_format, files = source_files(source)
    groups: list[list[ReadPart]] = []
    filled = full = unit_bytes + 1
    for file in files:
        pieces = _split(file, file_format, unit_bytes, source.name)
        for part, part_bytes in pieces:
            if filled + part_bytes > unit_bytes or len(pieces) > 1:
                groups.append([])
                filled = 0
            groups[-1].append(part)
            filled += part_bytes
        if len(pieces) > 1:
            filled = full
    if source.limit_documents is not None:
        groups = [[part for group in groups for part in group]]
    return [ReadTask(index=index, format=file_format, parts=tuple(parts)) for index, parts in enumerate(groups)]


def _split(file: SourceFile, file_format: SourceFormat, unit_bytes: int, source: str) -> list[tuple[ReadPart, int]]:
    path, size, version = file
    plain = "::" not in path and not path.endswith(COMPRESSED)
    whole = ReadPart(path=path, size_bytes=size, version=version)
    if plain and size > unit_bytes and file_format == "jsonl":
        starts = range(0, size, unit_bytes)
        return [(whole.model_copy(update={"start": at, "end": min(at + unit_bytes, size)}), unit_bytes) for at in starts]
    if plain and size > unit_bytes and file_format == "parquet":
        runs = _row_group_runs(file, unit_bytes, source)
        starts_ = [0, *[start for start, _ in runs[1:]]]
        ends = [*starts_[1:], size]
        return [
            (whole.model_copy(update={"start": start, "end": end, "row_groups": groups}), unit_bytes)
            for start, end, (_, groups) in zip(starts_, ends, runs, strict=True)
        ] or [(whole, size)]
    return [(whole, size)]


def _row_group_runs(file: SourceFile, unit_bytes: int, source: str) -> list[tuple[int, tuple[int, ...]]]:
    """Runs of row groups of about `unit_bytes` in memory, and where in the file each begins."""
    try:
        with open_source(file.path) as stream:
            metadata = pq.ParquetFile(stream).metadata
    except (pa.ArrowException, OSError) as error:
        raise not_parquet(file.path, error, source) from error
    runs: list[tuple[int, list[int]]] = []
    filled = unit_bytes + 1
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if filled + group.total_byte_size > unit_bytes:
            runs.append((_first_byte(group), []))
            filled = 0
        runs[-1][1].append(number)
        filled += group.total_byte_size
    return [(start, tuple(groups)) for start, groups in runs]


def _first_byte(group: pq.RowGroupMetaData) -> int:
    columns = [group.column(index) for index in range(group.num_columns)]
    return min(min(filter(None, (column.dictionary_page_offset, column.data_page_offset)), default=0) for column in columns)


def not_parquet(path: str, error: Exception, source: str) -> DataError:
    """The error for a file without a Parquet footer: another format, or a truncated file."""
    return DataError(
        f"{path}: not a Parquet file, or truncated: {error}",
        fix=f"check path and format of source {source}; fetch the file again if it was truncated",
    )
