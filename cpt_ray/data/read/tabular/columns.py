"""Read Parquet files, Arrow streams and Arrow files: rows of named, typed columns.

Part of stage `read`; runs in a worker. Memory: one batch of rows (Arrow: one batch, as written).

Guarantee: a value that Python cannot hold (a date beyond the year 9999, an unknown time zone) costs that field of its row, or
the row if it is its text; a column of another type than text makes its rows bad, not its source.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.documents import Rejected, from_record, mapped_fields, missing_columns
from cpt_ray.data.read.plan import ReadPart, not_parquet
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_ROWS = 256
_UNREADABLE = object()


def column_names(stream: Any, file_format: str) -> list[str]:
    """The columns of a table, of which only the schema is read.

    Raises:
        pa.ArrowException: If it is no such table.
    """
    if file_format == "parquet":
        return list(pq.ParquetFile(stream).schema_arrow.names)
    opened = pa.ipc.open_file(stream) if stream.peek(6)[:6] == b"ARROW1" else pa.ipc.open_stream(stream)
    return list(opened.schema.names)


def read_parquet(stream: Any, part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the rows of some row groups."""
    try:
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
    except pa.ArrowException as error:
        raise not_parquet(part.path, error, source.name) from error
    names = _checked_columns(schema, part, source)
    metadata = file.metadata
    # A reader may have only some row groups; row numbers in messages count from the start of the file all the same.
    groups = list(part.row_groups) if part.row_groups is not None else list(range(metadata.num_row_groups))
    before = sum(metadata.row_group(number).num_rows for number in range(groups[0] if groups else 0))
    if groups:
        yield from _rows(file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=names), before, part, source)


def read_arrow(stream: Any, part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the rows of an Arrow stream, as written by `datasets`, or of an Arrow (Feather) file."""
    try:
        if stream.peek(6)[:6] == b"ARROW1":
            file = pa.ipc.open_file(stream if stream.seekable() else io.BytesIO(stream.read()))
            schema, batches = file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            reader = pa.ipc.open_stream(stream)
            schema, batches = reader.schema, iter(reader)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{part.path}: not an Arrow stream: {error}", fix=f"check path and format of source {source.name}"
        ) from error
    names = _checked_columns(schema, part, source)
    # `datasets` writes batches of a thousand rows, of documents of any size: Python rows are made in small pieces.
    small = (piece.select(names) for batch in batches for piece in _slices(batch))
    yield from _rows(small, 0, part, source)


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (batch.slice(at, _ROWS) for at in range(0, batch.num_rows, _ROWS))


def _checked_columns(schema: pa.Schema, part: ReadPart, source: SourceConfig) -> list[str]:
    problem = missing_columns(schema.names, source, part.path)
    if problem is not None:
        raise DataError(f"{part.path}: {problem}", fix=f"set the field names of source {source.name} to existing columns")
    keys = (source.text_field, *mapped_fields(source).values())
    columns = (key if key in schema.names else key.split(".")[0] for key in keys)
    return [name for name in dict.fromkeys(columns) if name in schema.names]


def _rows(
    batches: Iterable[pa.RecordBatch], before: int, part: ReadPart, source: SourceConfig
) -> Iterator[Document | Rejected]:
    number = before
    for batch in batches:
        for row in _python_rows(batch):
            number += 1
            item = _row(row, part, source)
            if isinstance(item, Rejected) and item.problem:
                item = Rejected(item.reason, item.id, item.num_bytes, item.preview, item.problem, f"row {number}")
            yield item


def _row(row: dict[str, Any], part: ReadPart, source: SourceConfig) -> Document | Rejected:
    text = row.get(source.text_field)
    if text is _UNREADABLE:
        return Rejected.bad("not_text", f"{source.text_field!r} holds a value that cannot be read", "")
    if isinstance(text, bytes):  # some writers store text as plain bytes
        row = {**row, source.text_field: text.decode(errors="surrogateescape")}
    known = {name: None if value is _UNREADABLE else value for name, value in row.items()}
    text = known.get(source.text_field)
    return from_record(known, source, text if isinstance(text, str) else "", part.path)


def _python_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except Exception:  # not UTF-8, which Parquet does not guarantee, or a value that Python has no type for: by value, below
        columns = {name: [_lenient(value) for value in batch[name]] for name in batch.schema.names}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows


def _lenient(value: pa.Scalar) -> object:
    """The value, with bytes that are not UTF-8 as lone surrogates, which `make_document` rejects."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        if isinstance(value, pa.StructScalar):
            return {name: _lenient(value[name]) for name in value}
        return value.cast(pa.large_binary()).as_py().decode(errors="surrogateescape")
    except Exception:  # pyarrow raises what the time-zone packages raise
        if isinstance(value, pa.StructScalar):
            return {name: _lenient(value[name]) for name in value}
        return _UNREADABLE
