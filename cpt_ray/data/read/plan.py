"""From a source to tasks: list its files and split the large ones.

Part of stage `read`; runs on the driver. In: a source. Out: `ReadTask`s. Memory: one entry per file, byte range or run of row
groups; only the footers of large Parquet files are read.

Guarantee: tasks depend only on the files and `unit_bytes`, and record the size and version of each file as listed.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import SourceConfig, SourceFormat
from cpt_ray.data.read.decoding.encodings import UTF_8, marked_encoding
from cpt_ray.edges.source_files import (
    COMPRESSED,
    LeftOut,
    SourceFile,
    archive_kind,
    foreign_kind,
    format_of,
    is_unpacked,
    left_out_kind,
    list_files,
    open_source,
)
from cpt_ray.errors import DataError
from cpt_ray.records import Record

_HEAD = 1 << 13
_LEFT_OUT_FIXES = {"compressed": "decompress the files, or compress them with gzip, zstd, bz2 or xz"}


class ReadPart(Record):
    """A file, a byte range of a JSON-lines file, or some row groups of a Parquet file and the byte range that they span.

    `size_bytes` and `version` are those of the whole file, as listed. `format` is the file's own where files of a source
    differ. `left_out` is the kind under which a file is counted instead of read.
    """

    path: str
    size_bytes: int
    version: str
    start: int = 0
    end: int | None = None
    row_groups: tuple[int, ...] | None = None
    format: SourceFormat | None = None
    left_out: str | None = None


class ReadTask(Record):
    """Consecutive parts of a source that one task reads in order."""

    index: int
    format: SourceFormat
    parts: tuple[ReadPart, ...]


class Survey(NamedTuple):
    """What a source consists of: its format, its files, and the files that are left out."""

    format: SourceFormat
    files: list[SourceFile]
    left_out: list[LeftOut]


def survey_source(source: SourceConfig) -> Survey:
    """List a source: its files in canonical order, by path or as a dataset lists them, and what is left out by name.

    Raises:
        DataError: If no file matches or has a known format, or a dataset cannot be found.
    """
    if source.dataset is not None:
        from cpt_ray.edges.source_files.hub import resolve_dataset

        found = resolve_dataset(source.dataset)
        return Survey(source.format or found.format, found.files, [])
    files: set[SourceFile] = set()
    left_out: set[LeftOut] = set()
    for uri in source.path:
        listing = list_files(uri)
        left_out.update(listing.left_out)
        for file in listing.files:
            kind = _kind_left_out(file.path, source.format or "auto", in_folder=listing.is_folder)
            if kind is None:
                files.add(file)
            else:
                left_out.add(LeftOut(file.path, kind, file.size_bytes))
    # What one path leaves out, another may name.
    read = {file.path for file in files}
    left = sorted(item for item in left_out if item.path not in read)
    if not files:
        kinds = Counter(item.kind for item in left)
        raise DataError(
            f"source {source.name}: none of its files has a format that is known by its name; left out: "
            f"{', '.join(f'{count} {kind}' for kind, count in kinds.items())}, such as {left[0].path}",
            fix=_LEFT_OUT_FIXES.get(
                left[0].kind,
                f"set format of source {source.name}, and give its files by a pattern such as FOLDER/**/*.EXTENSION",
            ),
        )
    return Survey(source.format or "auto", sorted(files), left)


def _kind_left_out(path: str, file_format: SourceFormat, *, in_folder: bool) -> str | None:
    """The kind under which a listed file is left out; None if it is read."""
    if archive_kind(path) is not None:
        return None
    if file_format == "auto":
        return None if format_of(path) is not None else left_out_kind(path)
    # A pattern says which files have the given format; of a folder, the extension does.
    expected = "text" if file_format == "front_matter" else file_format
    if not in_folder or format_of(path) == expected:
        return None
    return left_out_kind(path) if format_of(path) is None else "other_format"


def source_files(source: SourceConfig) -> tuple[SourceFormat, list[SourceFile]]:
    """The format of a source and its files in canonical order.

    Raises:
        DataError: See `survey_source`.
    """
    found = survey_source(source)
    return found.format, found.files


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
    file_format, files, left_out = survey_source(source)
    groups: list[list[ReadPart]] = []
    filled = full = unit_bytes + 1
    for file in files:
        pieces = _split(file, file_format, unit_bytes, source)
        for part, part_bytes in pieces:
            if filled + part_bytes > unit_bytes or len(pieces) > 1:
                groups.append([])
                filled = 0
            groups[-1].append(part)
            filled += part_bytes
        if len(pieces) > 1:
            filled = full
    if left_out:
        # In front: a limit on documents ends the task before what comes last.
        skipped = [ReadPart(path=i.path, size_bytes=i.size_bytes, version="", left_out=i.kind) for i in left_out]
        groups = [[*skipped, *groups[0]], *groups[1:]]
    if source.limit_documents is not None:
        groups = [[part for group in groups for part in group]]
    return [ReadTask(index=index, format=file_format, parts=tuple(parts)) for index, parts in enumerate(groups)]


def _split(file: SourceFile, file_format: SourceFormat, unit_bytes: int, source: SourceConfig) -> list[tuple[ReadPart, int]]:
    path, size, version = file
    found = format_of(path) if file_format == "auto" else None
    whole = ReadPart(path=path, size_bytes=size, version=version, format=found)
    file_format = found or file_format
    # A URL is fetched whole by each task that reads it: splitting it would fetch it many times.
    if size <= unit_bytes or "::" in path or path.startswith(("http://", "https://")) or archive_kind(path) is not None:
        return [(whole, size)]
    if file_format == "jsonl" and _holds_plain_lines(path, source):
        starts = range(0, size, unit_bytes)
        return [(whole.model_copy(update={"start": at, "end": min(at + unit_bytes, size)}), unit_bytes) for at in starts]
    if file_format == "parquet" and not path.endswith(COMPRESSED):
        runs = _row_group_runs(file, unit_bytes, source.name)
        if not runs:  # compressed by its content, or empty
            return [(whole, size)]
        starts_ = [0, *[start for start, _ in runs[1:]]]
        ends = [*starts_[1:], size]
        return [
            (whole.model_copy(update={"start": start, "end": end, "row_groups": groups}), unit_bytes)
            for start, end, (_, groups) in zip(starts_, ends, runs, strict=True)
        ]
    return [(whole, size)]


def _holds_plain_lines(path: str, source: SourceConfig) -> bool:
    """Whether the bytes of a file are those of its lines: not compressed, in UTF-8, and no image or archive by its content."""
    if source.encoding != UTF_8 or path.endswith(COMPRESSED):
        return False
    with open_source(path) as stream:
        head = stream.peek(_HEAD)[:_HEAD]
        return not is_unpacked(stream) and marked_encoding(head[:4]) in (None, UTF_8) and foreign_kind(head, "jsonl") is None


def _row_group_runs(file: SourceFile, unit_bytes: int, source: str) -> list[tuple[int, tuple[int, ...]]]:
    """Runs of row groups of about `unit_bytes` in memory, and where in the file each begins."""
    try:
        with open_source(file.path) as stream:
            if is_unpacked(stream):
                return []
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
