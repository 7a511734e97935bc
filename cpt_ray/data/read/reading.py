"""Read the parts of a task in order, apply the policy for bad records, and stop at a damaged or changed file.

Part of stage `read`; runs in a worker. In: a `ReadTask`. Out: documents and rejections.

Guarantee: everything yielded came from the files as listed; the version is compared before and after each part.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import columns, formats
from cpt_ray.data.read.documents import BAD, Rejected
from cpt_ray.data.read.plan import ReadPart, ReadTask
from cpt_ray.edges.redaction import redact_uris
from cpt_ray.edges.source_files import source_version
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException)
_ENOUGH_RECORDS = 1000
_HOPELESS_SHARE = 0.5

_READERS: dict[str, Callable[[ReadPart, SourceConfig], Iterator[Document | Rejected]]] = {
    "jsonl": formats.read_jsonl,
    "json": formats.read_json,
    "csv": formats.read_csv,
    "text": formats.read_text,
    "front_matter": formats.read_front_matter,
    "parquet": columns.read_parquet,
    "arrow": columns.read_arrow,
}


def read_documents(task: ReadTask, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Stream the documents of a task in canonical order.

    Args:
        task: The task to read.
        source: Field names, limit, and policy for bad records.

    Yields:
        Each document or rejection; at most `limit_documents` in total.

    Raises:
        DataError: If a column is missing or not text, or a file is truncated, damaged or changed; at the first bad record if
            `on_bad_record` is `fail`, or if after a thousand records more than half are bad. Names the file and the location.
    """
    left, records, bad = source.limit_documents, 0, 0
    for part in task.parts:
        # Before and after: a file that is replaced while it is read gives a mixture of both versions.
        check_unchanged(part, source.name)
        here = 0
        try:
            for item in _READERS[task.format](part, source):
                if left is not None and records == left:
                    return
                records, here = records + 1, here + 1
                if isinstance(item, Rejected) and item.problem:
                    bad += 1
                    _apply_policy(item, part, source, records, bad)
                    path = redact_uris(part.path)  # it is stored, as the id of a sample
                    place = f"{path}, {item.place}" if item.place else path
                    item = replace(item, id=place, preview=f"{item.problem}: {item.preview}")
                yield item
        except _DAMAGE as error:
            # A file that was replaced meanwhile looks damaged; the change is the better explanation.
            check_unchanged(part, source.name)
            raise DataError(
                f"{part.path}: damaged or truncated after {here} records: {error}",
                fix=f"fetch the file again, or leave it out of source {source.name}: the amount of lost data is unknown",
            ) from error
        check_unchanged(part, source.name)


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
