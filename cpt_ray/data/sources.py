"""Stage `read`: files in five formats become documents.

Flow: a source's files -> `plan_reads` (driver) -> `ReadTask`s -> `read_documents` (worker) -> documents in canonical order.
Out: `Document(id, text, source, language, licence)`, or `Rejected(reason, id, num_bytes)` with the reasons `bad_encoding`,
`bad_json` and `empty`. Memory: one document at a time (Parquet: one batch of rows); the plan holds one entry per file,
byte range or run of row groups. A task never depends on the cluster, so neither does the order of documents.

Guarantee: every line, row or file of the input is yielded exactly once, as a document or as a rejection, or the run stops
with an error that names the place.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from cpt_ray.config.prepare import SourceConfig
from cpt_ray.edges import storage
from cpt_ray.errors import DataError
from cpt_ray.records import Document, Record

_COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip")
_ID_HEX = 16
_PARQUET_ROWS = 256
_LONGEST_FIELD = 1 << 30
_HEADER = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


class ReadPart(Record):
    """A file, a byte range of a JSON-lines file, or some row groups of a Parquet file."""

    path: str
    start: int = 0
    end: int | None = None
    row_groups: tuple[int, ...] | None = None


class ReadTask(Record):
    """Consecutive parts of a source that one task reads in order."""

    index: int
    parts: tuple[ReadPart, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Input that is not a document: why, its id where it has one, and its raw size."""

    reason: str
    id: str
    num_bytes: int
    preview: str = ""


def plan_reads(source: SourceConfig, unit_bytes: int) -> list[ReadTask]:
    """Cut a source into tasks of about `unit_bytes` of input.

    Small files are grouped; plain JSON lines are split in byte ranges and Parquet by row groups; CSV, compressed files and
    archive members are never split. With `limit_documents` the source is one task, so that the limit follows the order.

    Args:
        source: The source.
        unit_bytes: Input bytes per task, at least one file, range or row group.

    Returns:
        Tasks in canonical order: by path, then by place in the file.

    Raises:
        DataError: If no file matches.
    """
    files = sorted({file for uri in source.path for file in storage.list_source_files(uri)})
    groups: list[list[ReadPart]] = []
    filled = full = unit_bytes + 1
    for path, size in files:
        pieces = _split(path, size, source.format, unit_bytes)
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
    return [ReadTask(index=index, parts=tuple(parts)) for index, parts in enumerate(groups)]


def _split(path: str, size: int, file_format: str, unit_bytes: int) -> list[tuple[ReadPart, int]]:
    plain = "::" not in path and not path.endswith(_COMPRESSED)
    if plain and size > unit_bytes and file_format == "jsonl":
        starts = range(0, size, unit_bytes)
        return [(ReadPart(path=path, start=at, end=min(at + unit_bytes, size)), unit_bytes) for at in starts]
    if plain and size > unit_bytes and file_format == "parquet":
        with storage.open_source(path) as stream:
            metadata = pq.ParquetFile(stream).metadata
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
        runs: list[list[int]] = []
        filled = unit_bytes + 1
        for group, group_bytes in enumerate(sizes):
            if filled + group_bytes > unit_bytes:
                runs.append([])
                filled = 0
            runs[-1].append(group)
            filled += group_bytes
        return [(ReadPart(path=path, row_groups=tuple(run)), unit_bytes) for run in runs]
    return [(ReadPart(path=path), size)]


def read_documents(task: ReadTask, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Stream the documents of a task in canonical order.

    Args:
        task: What to read.
        source: Format and names of the fields.

    Yields:
        Each document, or its rejection; at most `limit_documents` of both together.

    Raises:
        DataError: If a field is missing or not text, or a CSV or Parquet file is broken; names the file and the line.
    """
    left = source.limit_documents
    for part in task.parts:
        for item in _READERS[source.format](part, source):
            if left is not None:
                if left == 0:
                    return
                left -= 1
            yield item


def _document(source: SourceConfig, text: str, document_id: object, language: object) -> Document | Rejected:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        broken = text.encode(errors="replace")
        return Rejected("bad_encoding", str(document_id or ""), len(broken), broken[:1000].decode())
    name = str(document_id) if document_id not in (None, "") else hashlib.blake2b(data, digest_size=_ID_HEX // 2).hexdigest()
    if not text.strip():
        return Rejected("empty", name, len(data))
    return Document(
        id=name,
        text=text,
        source=source.name,
        language=str(language) if language else source.default_language,
        licence=source.licence,
    )


def _fields(row: Mapping[str, Any], source: SourceConfig, place: str) -> Document | Rejected:
    for key, name in ((source.text_field, "text_field"), (source.id_field, "id_field")):
        if key is not None and key not in row:
            raise DataError(
                f"{place}: no {'column' if source.format != 'jsonl' else 'key'} {key!r}; there are: {', '.join(map(str, row))}",
                fix=f"set {name} of source {source.name} to one of these",
            )
    text = row[source.text_field]
    if text is not None and not isinstance(text, str):
        raise DataError(
            f"{place}: {source.text_field!r} holds {type(text).__name__}, not text",
            fix=f"set text_field of source {source.name} to a field that holds text, or leave this record out",
        )
    document_id = row[source.id_field] if source.id_field else None
    return _document(source, text or "", document_id, row.get(source.language_field) if source.language_field else None)


def _read_jsonl(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    with storage.open_source(part.path) as stream:
        position = part.start
        if part.start:
            # The line that crosses the border belongs to the part before; one that begins exactly on it is ours.
            stream.seek(part.start - 1)
            position += len(stream.readline()) - 1
        number = 0
        while part.end is None or position < part.end:
            line = stream.readline()
            if not line:
                return
            number += 1
            if line.strip():
                yield _json_line(line, source, part, number)
            position += len(line)


def _json_line(line: bytes, source: SourceConfig, part: ReadPart, number: int) -> Document | Rejected:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Rejected("bad_encoding", "", len(line), line[:1000].decode(errors="replace"))
    except (json.JSONDecodeError, RecursionError):
        row = None
    if not isinstance(row, dict):
        return Rejected("bad_json", "", len(line), line[:1000].decode(errors="replace"))
    try:
        return _fields(row, source, "")
    except DataError as error:
        if part.start:
            number += _lines_before(part)
        raise DataError(f"{part.path}, line {number}{error.problem}", fix=error.fix) from None


def _lines_before(part: ReadPart) -> int:
    count, left = 0, part.start - 1
    with storage.open_source(part.path) as stream:
        while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
            count += chunk.count(b"\n")
            left -= len(chunk)
    return count + 1


def _read_parquet(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    with storage.open_source(part.path) as stream:
        try:
            file = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{part.path}: not a Parquet file: {error}", fix=f"check path and format of source {source.name}"
            ) from None
        names = file.schema_arrow.names
        wanted = [name for name in (source.text_field, source.id_field, source.language_field) if name in names]
        groups = list(part.row_groups) if part.row_groups is not None else list(range(file.metadata.num_row_groups))
        number = 0
        if source.text_field not in wanted or (source.id_field and source.id_field not in wanted):
            _fields(dict.fromkeys(names), source, part.path)
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS, row_groups=groups, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                where = f"row {number}" if groups[:1] == [0] else f"row {number} from row group {groups[0]} on"
                yield _fields(row, source, f"{part.path}, {where}")


def _read_csv(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    csv.field_size_limit(_LONGEST_FIELD)
    with storage.open_source(part.path) as stream:
        # Bytes that are not UTF-8 become lone surrogates, which `_document` rejects; a quoted field may hold newlines.
        reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=""))
        try:
            for row in reader:
                place = f"{part.path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(
                        f"{place}: the number of columns differs from the header's {len(reader.fieldnames or ())}",
                        fix="quote fields that hold commas or newlines, or repair this row",
                    )
                yield _fields(row, source, place)
        except csv.Error as error:
            raise DataError(
                f"{part.path}, line {reader.line_num}: not CSV: {error}", fix=f"check path and format of source {source.name}"
            ) from None


def _read_text(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    text = _file_text(part)
    yield text if isinstance(text, Rejected) else _document(source, text, _stem(part), None)


def _read_front_matter(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    text = _file_text(part)
    if isinstance(text, Rejected):
        yield text
        return
    header = _HEADER.match(text)
    language = _header_field(header[1], source.language_field) if header and source.language_field else None
    yield _document(source, text[header.end() :].lstrip("\r\n") if header else text, _stem(part), language)


def _header_field(header: str, name: str) -> object:
    # Only the one line is parsed: a whole header costs a millisecond in YAML, more than all other reading together.
    match = re.search(rf"^{re.escape(name)}[ \t]*:[^\n]*", header, re.MULTILINE)
    if match is None:
        return None
    try:
        value = yaml.safe_load(match[0])[name]
    except (yaml.YAMLError, KeyError, TypeError):
        return None
    # YAML 1.1 reads the code of Norwegian as a boolean.
    return "no" if value is False else value


def _file_text(part: ReadPart) -> str | Rejected:
    with storage.open_source(part.path) as stream:
        data = stream.read()
    try:
        return str(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Rejected("bad_encoding", _stem(part), len(data), data[:1000].decode(errors="replace"))


def _stem(part: ReadPart) -> str:
    return PurePosixPath(part.path.split("::")[0]).name.split(".")[0] or part.path


_READERS = {
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "csv": _read_csv,
    "text": _read_text,
    "front_matter": _read_front_matter,
}
