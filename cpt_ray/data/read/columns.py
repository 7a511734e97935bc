"""Read Parquet files and Arrow streams: rows of named, typed columns.

Part of stage `read`; runs in a worker. Memory: one batch of rows (Arrow streams: one batch, as written).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.documents import Rejected, from_record, mapped_fields, missing_columns
from cpt_ray.data.read.plan import ReadPart, not_parquet
from cpt_ray.edges.source_files import open_source
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_ROWS = 256


def read_parquet(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the rows of some row groups."""
    with open_source(part.path) as stream:
        try:
            file = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise not_parquet(part.path, error, source.name) from error
        names = _checked_columns(file.schema_arrow, part, source)
        metadata = file.metadata
        # A reader may have only some row groups; row numbers in messages count from the start of the file all the same.
        groups = list(part.row_groups) if part.row_groups is not None else list(range(metadata.num_row_groups))
        before = sum(metadata.row_group(number).num_rows for number in range(groups[0] if groups else 0))
        if groups:
            yield from _rows(file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=names), before, source)


def read_arrow(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the rows of an Arrow stream, as written by `datasets`."""
    with open_source(part.path) as stream:
        try:
            reader = pa.ipc.open_stream(stream)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{part.path}: not an Arrow stream: {error}", fix=f"check path and format of source {source.name}"
            ) from error
        names = _checked_columns(reader.schema, part, source)
        # `datasets` writes batches of a thousand rows, of documents of any size: Python rows are made in small pieces.
        small = (piece.select(names) for batch in reader for piece in _slices(batch))
        yield from _rows(small, 0, source)


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (batch.slice(at, _ROWS) for at in range(0, batch.num_rows, _ROWS))


def _checked_columns(schema: pa.Schema, part: ReadPart, source: SourceConfig) -> list[str]:
    problem = missing_columns(schema.names, source)
    if problem is not None:
        raise DataError(f"{part.path}: {problem}", fix=f"set the field names of source {source.name} to existing columns")
    kind = schema.field(source.text_field).type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)):
        raise DataError(
            f"{part.path}: column {source.text_field!r} holds {kind}, not text",
            fix=f"set text_field of source {source.name} to a column that holds text",
        )
    return list(dict.fromkeys([source.text_field, *mapped_fields(source).values()]))


def _rows(batches: Any, before: int, source: SourceConfig) -> Iterator[Document | Rejected]:
    number = before
    for batch in batches:
        for row in _python_rows(batch):
            number += 1
            item = from_record(row, source, row[source.text_field] or "")
            if isinstance(item, Rejected) and item.problem:
                item = Rejected(item.reason, item.id, item.num_bytes, item.preview, item.problem, f"row {number}")
            yield item


def _python_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:  # Parquet does not guarantee that strings are UTF-8
        columns = {name: [_lenient(value) for value in batch[name]] for name in batch.schema.names}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows


def _lenient(value: pa.Scalar) -> object:
    """The value, with bytes that are not UTF-8 as lone surrogates, which `make_document` rejects."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.cast(pa.large_binary()).as_py().decode(errors="surrogateescape")
