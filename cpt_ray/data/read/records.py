"""The first records of a file as they stand, from which `cpt-ray init` proposes the fields of a source.

Part of stage `read`; runs on the driver. In: a file of rows. Out: plain mappings. Memory: the records; of JSON that is one list
at most `_MOST_JSON` bytes.

Guarantee: reads a bounded part of the file; a line or element that is no record is passed over, for `prove_source` to name.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.decoding.encodings import as_utf8, detect_encoding
from cpt_ray.data.read.formats import holds_lines
from cpt_ray.data.read.plan import ReadPart
from cpt_ray.data.read.tabular.csv_rows import header_of
from cpt_ray.edges.source_files import SourceFile, format_of, open_source
from cpt_ray.errors import DataError

ROW_FORMATS = frozenset({"jsonl", "json", "csv", "parquet", "arrow"})
"""Formats in which a file holds many documents, with fields."""
_RECORDS = 20
_HEAD = 1 << 16
_MOST_JSON = 4 << 20
_DELIMITERS = (",", ";", "\t", "|")


def first_records(file: SourceFile, source: SourceConfig) -> list[dict[str, Any]]:
    """At most twenty records of a file.

    Args:
        file: A file of one of `ROW_FORMATS`.
        source: The source that it belongs to, for messages.

    Raises:
        DataError: If it is no table although its name says so, or the header of a CSV file cannot be read.
    """
    kind = format_of(file.path)
    found = _table_rows(file) if kind in ("parquet", "arrow") else _text_rows(file, str(kind), source)
    return [row for row in itertools.islice(found, _RECORDS) if isinstance(row, dict)]


def _table_rows(file: SourceFile) -> Iterator[dict[str, Any]]:
    try:
        with open_source(file.path) as stream:
            if format_of(file.path) == "parquet":
                batches: Iterator[Any] = pq.ParquetFile(stream).iter_batches(batch_size=_RECORDS)
            elif stream.peek(6)[:6] == b"ARROW1":
                opened = pa.ipc.open_file(stream)
                batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
            else:
                batches = iter(pa.ipc.open_stream(stream))
            for batch in batches:
                yield from batch.slice(0, _RECORDS).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path}: cannot be read as a table: {error}", fix="repair the file, or take it away") from error


def _text_rows(file: SourceFile, kind: str, source: SourceConfig) -> Iterator[Any]:
    with open_source(file.path) as stream:
        encoding = detect_encoding(stream, most_bytes=_HEAD).name
    with open_source(file.path) as raw:
        stream, _ = as_utf8(raw, encoding)
        if kind == "csv":
            yield from _csv_rows(file, stream, encoding, source)
        elif kind == "jsonl" or holds_lines(stream.peek(_HEAD)):
            for line in itertools.islice(stream, 2 * _RECORDS):
                yield _value(line.decode("utf-8-sig", "replace"))
        else:
            yield from _elements(stream.read(_MOST_JSON).decode("utf-8-sig", "replace"))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _elements(text: str) -> Iterator[Any]:
    """The elements of a JSON list that may end early, or the object that the text is."""
    decoder, at = json.JSONDecoder(), len(text) - len(text.lstrip())
    if text[at : at + 1] != "[":
        yield _value(text)
        return
    while True:
        at += 1
        at += len(text[at:]) - len(text[at:].lstrip()) if at < len(text) else 0
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield value
        at += len(text[at:]) - len(text[at:].lstrip())


def _csv_rows(file: SourceFile, stream: Any, encoding: str, source: SourceConfig) -> Iterator[dict[str, str]]:
    with open_source(file.path) as again:
        part = ReadPart(path=file.path, size_bytes=file.size_bytes, version=file.version)
        header = header_of(as_utf8(again, encoding)[0], part, source)
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
    delimiter = None
    for line in itertools.islice(lines, 2):  # a line `sep=;` may stand before the header
        delimiter = next((mark for mark in _DELIMITERS if next(csv.reader([line], delimiter=mark), []) == header), None)
        if delimiter is not None:
            break
    if delimiter is None:
        yield dict.fromkeys(header, "")
        return
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            if len(row) == len(header):
                yield dict(zip(header, row, strict=True))
    except csv.Error:
        return
