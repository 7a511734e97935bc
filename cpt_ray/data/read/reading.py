"""Read the parts of a task in order, apply the policy for bad records, and stop at a damaged or changed file.

Part of stage `read`; runs in a worker. In: a `ReadTask`. Out: documents and rejections.

Guarantee: everything yielded came from the files as listed; the version is compared before and after each part.
"""

from __future__ import annotations

import errno
import io
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa

from cpt_ray.config.sections.prepare import SourceConfig, SourceFormat
from cpt_ray.data.read import formats, texts
from cpt_ray.data.read.decoding.encodings import Encoding, as_utf8, detect_encoding, is_wide
from cpt_ray.data.read.documents import BAD, Rejected
from cpt_ray.data.read.plan import ReadPart, ReadTask
from cpt_ray.data.read.tabular import columns, csv_rows
from cpt_ray.edges.redaction import redact_uris
from cpt_ray.edges.source_files import (
    Member,
    archive_kind,
    foreign_kind,
    format_of,
    is_unpacked,
    left_out_kind,
    members,
    open_source,
    peekable,
    source_version,
    unpacked,
)
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, pa.ArrowException)
_TOO_MANY_FILES = "raise the limit of open files (ulimit -n 65536), then re-run the same command"
_NO_ROOM = (
    "free space in the folder of temporary files, {temporary}, or set TMPDIR to another one, then re-run the same command"
)
_NO_FAULT_OF_THE_FILE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "give this user read permission, or leave the file out of source {source}"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _NO_ROOM),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _TOO_MANY_FILES),
}
"""What the system may say of a file that is whole, and what to do then."""
_ENOUGH_RECORDS = 1000
_HOPELESS_SHARE = 0.5
_HEAD = 1 << 13
_COPIED_BYTES = 1 << 20
_TABLES = ("parquet", "arrow")
LEFT_OUT = "left_out"
"""Reasons of files that are not read begin with this, and end with the kind of the file."""

Items = Iterator[Document | Rejected]

_ROW_READERS: dict[str, Callable[[Any, ReadPart, SourceConfig], Items]] = {
    "jsonl": formats.read_jsonl,
    "json": formats.read_json,
    "csv": csv_rows.read_csv,
    "parquet": columns.read_parquet,
    "arrow": columns.read_arrow,
}
_TEXT_READERS: dict[str, Callable[[Any, ReadPart, SourceConfig, int | None], Items]] = {
    "text": texts.read_text,
    "html": texts.read_html,
    "front_matter": texts.read_front_matter,
}


def read_documents(
    task: ReadTask, source: SourceConfig, *, max_bytes: int | None = None, encodings: Counter[str] | None = None
) -> Items:
    """Stream the documents of a task in canonical order.

    Args:
        task: The task to read.
        source: Field names, limit, and policy for bad records.
        max_bytes: Files that are one document are split above this size, unless the source says otherwise.
        encodings: Counts text files by encoding.

    Yields:
        Each document or rejection, and a rejection for each file that is left out; at most `limit_documents` in total, files
        that are left out not counted.

    Raises:
        DataError: If a column is missing, or a file cannot be read or is truncated, damaged or changed; at the first bad record
            if `on_bad_record` is `fail`, or if after a thousand records more than half are bad. Names the file, in an archive
            its member, and the location.
    """
    reader = _Reader(source, max_bytes, Counter() if encodings is None else encodings)
    left, records, bad = source.limit_documents, 0, 0
    for part in task.parts:
        if part.left_out is not None:
            yield _left_out(part.path, part.left_out, part.size_bytes)
            continue
        # Before and after: a file that is replaced while it is read gives a mixture of both versions.
        check_unchanged(part, source.name)
        here = 0
        try:
            for item in reader.items(part, part.format or task.format):
                if isinstance(item, Rejected) and item.reason.startswith(LEFT_OUT):
                    yield item
                    continue
                if left is not None and records == left:
                    return
                records, here = records + 1, here + 1
                if isinstance(item, Rejected) and item.problem:
                    bad += 1
                    _apply_policy(item, reader.part, source, records, bad)
                    path = redact_uris(reader.part.path)  # it is stored, as the id of a sample
                    place = f"{path}, {item.place}" if item.place else path
                    item = replace(item, id=place, preview=f"{item.problem}: {item.preview}")
                yield item
        except _DAMAGE as error:
            # A file that was replaced meanwhile looks damaged; the change is the better explanation.
            check_unchanged(part, source.name)
            raise _unreadable(error, reader.part.path, here, source.name) from error
        check_unchanged(part, source.name)


def _unreadable(error: Exception, path: str, records: int, source: str) -> DataError:
    """The error for a file at which reading stopped: damaged, or whole and out of reach."""
    if isinstance(error, OSError) and error.errno in _NO_FAULT_OF_THE_FILE:
        fix = _NO_FAULT_OF_THE_FILE[error.errno].format(source=source, temporary=tempfile.gettempdir())
        return DataError(f"{path}: cannot be read after {records} records: {error.strerror}", fix=fix)
    return DataError(
        f"{path}: damaged or truncated after {records} records: {error}",
        fix=f"fetch the file again, or leave it out of source {source}: the amount of lost data is unknown",
    )


def _left_out(path: str, kind: str, num_bytes: int) -> Rejected:
    path = redact_uris(path)  # it is stored, as the id of a sample
    return Rejected(f"{LEFT_OUT}.{kind}", path, num_bytes, path)


class _Reader:
    """Opens the parts of a source and finds the reader of each file or archive member."""

    def __init__(self, source: SourceConfig, max_bytes: int | None, encodings: Counter[str]) -> None:
        self._source, self._max_bytes, self._encodings = source, max_bytes, encodings
        self.part: ReadPart
        """What is being read: a part of the task, or a member of an archive."""

    def items(self, part: ReadPart, file_format: SourceFormat) -> Items:
        """The documents of a file, or of all members of an archive."""
        self.part = part
        archive = archive_kind(part.path)
        if archive is None:
            encoding = self._encoding_of(part, file_format)
            with open_source(part.path) as stream:
                yield from self._file(stream, part, file_format, encoding)
            return
        with open_source(part.path) as stream:
            for member in members(stream, archive):
                yield from self._member(member, f"{archive}://{member.name}::{part.path}", part, self._source.format or "auto")

    def _member(self, member: Member, path: str, part: ReadPart, file_format: SourceFormat) -> Items:
        found = format_of(member.name) if file_format == "auto" else file_format
        kind = member.left_out or (left_out_kind(member.name) if found is None else None)
        if kind is not None or found is None:
            yield _left_out(path, str(kind), member.size_bytes)
            return
        self.part = here = ReadPart(path=path, size_bytes=member.size_bytes, version=part.version)
        stream = unpacked(io.BufferedReader(member.stream, _COPIED_BYTES))  # a member shows 512 bytes or 8 kB of what is ahead
        if self._source.encoding != "auto" or found in _TABLES:
            yield from self._file(stream, here, found, Encoding(self._source.encoding))
            return
        with _copied(stream) as copy:  # detection reads twice, and a member can be read once
            encoding = detect_encoding(copy)
            copy.seek(0)
            yield from self._file(peekable(copy), here, found, encoding)

    def _encoding_of(self, part: ReadPart, file_format: SourceFormat) -> Encoding:
        if self._source.encoding != "auto" or file_format in _TABLES:
            return Encoding(self._source.encoding)
        with open_source(part.path) as stream:
            return detect_encoding(stream)

    def _file(self, stream: Any, part: ReadPart, file_format: SourceFormat, encoding: Encoding) -> Items:
        if file_format == "auto":  # a path without an extension that was listed as it stands
            file_format = format_of(part.path) or "text"
        head = stream.peek(_HEAD)[:_HEAD]
        kind = foreign_kind(head, file_format) if part.start == 0 else None
        if kind is not None and not (kind == "binary" and is_wide(encoding.name)):
            yield _left_out(part.path, kind, part.size_bytes)
            return
        if file_format not in _TABLES and part.start == 0:
            stream, found = as_utf8(stream, encoding.name)
            self._encodings[encoding.shown if found == encoding.name else found] += 1
        if file_format == "json" and self._source.format != "json" and formats.holds_lines(stream.peek(_HEAD)[: 1 << 20]):
            file_format = "jsonl"
        if file_format in _TABLES and (is_unpacked(stream) or "::" in part.path):
            with _copied(stream) as copy:  # tables are read from their end
                yield from _ROW_READERS[file_format](copy, part, self._source)
        elif file_format in _TEXT_READERS:
            yield from _TEXT_READERS[file_format](stream, part, self._source, self._max_bytes)
        else:
            yield from _ROW_READERS[file_format](stream, part, self._source)


@contextmanager
def _copied(stream: Any) -> Iterator[Any]:
    """A temporary file with the rest of a stream: whatever its size, it takes no memory."""
    with tempfile.TemporaryFile(buffering=_COPIED_BYTES) as copy:
        shutil.copyfileobj(stream, copy, _COPIED_BYTES)
        copy.seek(0)
        yield copy


def check_unchanged(part: ReadPart, source: str) -> None:
    """Check that a file still has the version that was listed.

    Raises:
        DataError: If it was written to or has disappeared.
    """
    fix = f"make sure nothing writes to the files of source {source} while it is prepared, then re-run the same command"
    try:
        version = source_version(part.path)
    except FileNotFoundError:
        raise DataError(f"{part.path}: disappeared after it was listed at the start", fix=fix) from None
    if version is not None and version != part.version:
        raise DataError(f"{part.path}: changed while being read: version {part.version}, now {version}", fix=fix)


def _apply_policy(item: Rejected, part: ReadPart, source: SourceConfig, records: int, bad: int) -> None:
    if source.on_bad_record == "fail":
        raise DataError(
            f"{part.path}, {formats.line_of(item.place, part)}: {item.problem}",
            fix=f"{BAD[item.reason].format(source=source.name)}; or set on_bad_record of source {source.name} to drop",
        )
    if records >= _ENOUGH_RECORDS and bad > max(_HOPELESS_SHARE, source.max_bad_share) * records:
        raise DataError(
            f"{part.path}, {formats.line_of(item.place, part)}: {item.problem}; so far {bad} of {records} records are bad",
            fix=BAD[item.reason].format(source=source.name),
        )
