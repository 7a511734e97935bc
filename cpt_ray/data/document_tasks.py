"""What a worker does with one unit on the way from raw files to clean documents with duplicate verdicts.

Not a stage: it strings the per-document stages together over one unit's files; `pipeline` hands the functions to Ray Data.
Files: `raw/` (id, text, language), `clean/` (id, text, language, bytes, exact), `keys/` (Arrow, one batch per partition),
`edges/`, `near_duplicates/` (component, reason; row by row beside `clean/`). Memory: one unit's documents; for edges one
partition of keys.

Guarantee: a function reads only files that its task names and writes files named by their content: twice is as once.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.data.clean import clean
from cpt_ray.data.dedup.components import duplicate_edges
from cpt_ray.data.dedup.signatures import exact_hash, key_table, read_keys, write_keys
from cpt_ray.data.sources import ReadTask, Rejected, read_documents
from cpt_ray.data.units import Samples, Tally, UnitContext, UnitTask, finish_unit, write_content
from cpt_ray.records import Document, Dropped, FileEntry, UnitReport

RAW_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("language", pa.string())])
CLEAN_SCHEMA = pa.schema([*RAW_SCHEMA, ("bytes", pa.int64()), ("exact", pa.binary(16))])
REFERENCE_BITS = 32
"""A document's reference is its unit's number shifted by this, plus its row."""


class ReadUnit(UnitTask):
    """Read a part of a source."""

    read: ReadTask


class CleanUnit(UnitTask):
    """Clean the raw unit of that number and spread its keys over the partitions."""

    number: int
    raw: str
    partitions: int


class EdgeUnit(UnitTask):
    """Join the documents that meet in one partition of the key space; `key_files` is a JSON list of files."""

    partition: int
    key_files: str


class VerdictUnit(UnitTask):
    """Write the duplicate verdicts of one clean unit."""

    number: int
    clean: str
    verdicts: str


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet with the compression all units use."""
    pq.write_table(table, path, compression="zstd", compression_level=1)


def read_unit(task: ReadUnit, context: UnitContext) -> UnitReport:
    """Read a part of a source and cut it into raw units of `unit_bytes` of text."""
    source = context.source(task.source)
    tally, samples = Tally("read", source.name), Samples("read", source.name, context.prepare.seed)
    files: list[FileEntry] = []
    buffer: list[Document] = []
    filled = 0
    for item in read_documents(task.read, source):
        if isinstance(item, Rejected):
            tally.drop(item.reason, item.num_bytes)
            samples.add(item.reason, item.id, item.preview)
            continue
        num_bytes = len(item.text.encode())
        tally.keep(num_bytes)
        if buffer and filled + num_bytes > context.prepare.unit_bytes:
            files.append(_write_raw(task, context, len(files), buffer))
            buffer, filled = [], 0
        buffer.append(item)
        filled += num_bytes
    if buffer:
        files.append(_write_raw(task, context, len(files), buffer))
    return finish_unit(task, context, "read", files=files, reports=[tally.report()], samples=samples.records())


def _write_raw(task: UnitTask, context: UnitContext, number: int, documents: list[Document]) -> FileEntry:
    rows = [[d.id for d in documents], [d.text for d in documents], [d.language for d in documents]]
    table = pa.table(rows, schema=RAW_SCHEMA)
    return write_content(context.root, f"raw/{task.unit}-{number:05d}", ".parquet", lambda path: write_parquet(table, path))


def clean_unit(task: CleanUnit, context: UnitContext) -> UnitReport:
    """Clean the documents of a raw unit and compute their duplicate keys."""
    source, prepare = context.source(task.source), context.prepare
    tally, samples = Tally("clean", source.name), Samples("clean", source.name, prepare.seed)
    kept: list[Document] = []
    sizes: list[int] = []
    for row in pq.read_table(context.root / task.raw).to_pylist():
        before = len(row["text"].encode())
        document = Document(row["id"], row["text"], source.name, row["language"], source.licence)
        verdict = clean(document, prepare.clean)
        if isinstance(verdict, Dropped):
            tally.drop(verdict.reason, before)
            samples.add(verdict.reason, document.id, document.text)
            continue
        kept.append(verdict)
        sizes.append(len(verdict.text.encode()))
        tally.keep(before, edited_to=sizes[-1])
    texts = [document.text for document in kept]
    exact = [exact_hash(text) for text in texts]
    columns = [[d.id for d in kept], texts, [d.language for d in kept], sizes, exact]
    table = pa.table(columns, schema=CLEAN_SCHEMA)
    keys = key_table(texts, exact, task.number << REFERENCE_BITS, prepare.near_duplicates, prepare.seed)
    files = [
        write_content(context.root, f"clean/{task.unit}", ".parquet", lambda path: write_parquet(table, path)),
        write_content(context.root, f"keys/{task.unit}", ".arrow", lambda path: write_keys(keys, path, task.partitions)),
    ]
    return finish_unit(task, context, "clean", files=files, reports=[tally.report()], samples=samples.records())


def edge_unit(task: EdgeUnit, context: UnitContext) -> UnitReport:
    """Join the documents that share a key of this partition."""
    names = json.loads((context.root / task.key_files).read_bytes())
    edges = duplicate_edges(pa.concat_tables(read_keys(context.root / name, task.partition) for name in names))
    entry = write_content(context.root, f"edges/{task.unit}", ".parquet", lambda path: write_parquet(edges, path))
    return finish_unit(task, context, "duplicate_edges", files=[entry], counts={"edges": edges.num_rows})


def verdict_unit(task: VerdictUnit, context: UnitContext) -> UnitReport:
    """Write component and reason of every document of a clean unit."""
    tally = Tally("near_duplicates", task.source)
    samples = Samples("near_duplicates", task.source, context.prepare.seed)
    table = pq.read_table(context.root / task.clean, columns=["id", "bytes", "exact"])
    decided = _verdicts_of(context.root / task.verdicts, task.number)
    names: list[str] = []
    reasons: list[str | None] = []
    for row, (size, exact) in enumerate(zip(table["bytes"].to_pylist(), table["exact"].to_pylist(), strict=True)):
        component, reason = decided.get(row, (exact.hex(), None))
        names.append(component)
        reasons.append(reason)
        if reason is None:
            tally.keep(size)
        else:
            tally.drop(reason, size)
    dropped = [row for row, reason in enumerate(reasons) if reason is not None]
    if dropped:
        texts = pq.read_table(context.root / task.clean, columns=["text"])["text"]
        for row in dropped:
            samples.add(str(reasons[row]), table["id"][row].as_py(), texts[row].as_py())
    verdicts = pa.table([names, reasons], schema=pa.schema([("component", pa.string()), ("reason", pa.string())]))
    entry = write_content(context.root, f"near_duplicates/{task.unit}", ".parquet", lambda path: write_parquet(verdicts, path))
    report = tally.report()
    return finish_unit(task, context, "near_duplicates", files=[entry], reports=[report], samples=samples.records())


def _verdicts_of(path: Path, number: int) -> dict[int, tuple[str, str | None]]:
    first = number << REFERENCE_BITS
    bounds = [("document", ">=", first), ("document", "<", first + (1 << REFERENCE_BITS))]
    table = pq.read_table(path, filters=bounds)
    rows = [document - first for document in table["document"].to_pylist()]
    return dict(zip(rows, zip(table["component"].to_pylist(), table["reason"].to_pylist(), strict=True), strict=True))
