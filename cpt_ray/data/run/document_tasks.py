"""Worker tasks that turn one unit of raw files into clean documents and their duplicate keys.

Chains the per-document stages over the files of one unit; `pipeline` passes the functions to Ray Data. Files: `inputs/` (the
input files of a unit), `raw/` (identity, id, text and what the source says of it), `clean/` (the same plus bytes, exact),
`keys/` and `ids/` (Arrow, one batch per partition), `sketches/` (uint8, a row per document). Memory: one unit's documents.

Guarantee: a function reads only files that its task names and writes files named by their content, so it is idempotent.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.clean import clean
from cpt_ray.data.dedup.exchange import write_partitions
from cpt_ray.data.dedup.signatures import Sketches, exact_hash, signatures
from cpt_ray.data.identity import document_identity, id_keys
from cpt_ray.data.read import INPUTS, ReadTask, Rejected, pin_inputs, read_documents, write_inputs
from cpt_ray.data.run.units import (
    Outputs,
    Samples,
    Tally,
    UnitContext,
    UnitTask,
    finish_unit,
    read_columns,
    write_content,
    write_dropped,
)
from cpt_ray.data.words import seeded_uint64
from cpt_ray.records import Document, DocumentKey, Dropped, FileEntry, UnitFacts, UnitReport

_ABOUT = ("language", "origin", "date", "license", "label")
_NAMES = [("identity", pa.string()), ("id", pa.string())]
RAW_SCHEMA = pa.schema([*_NAMES, ("text", pa.large_string()), *[(name, pa.string()) for name in _ABOUT]])
CLEAN_SCHEMA = pa.schema([*RAW_SCHEMA, ("bytes", pa.int64()), ("exact", pa.binary(16))])
UNKNOWN = "unknown"
"""Language of a document for which none was identified."""
REFERENCE_BITS = 32
"""A document's reference is its unit's number shifted left by this many bits, plus its row."""

_KEYS_PER_ID = 16
"""A document has one id, and with the default bands 17 keys."""


class ReadUnit(UnitTask):
    """Read a part of a source."""

    read: ReadTask


class CleanUnit(UnitTask):
    """Clean a raw unit and spread its keys over the partitions; of duplicates, the one with the lowest `number` is kept."""

    number: int
    raw: str
    partitions: int


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet with the compression used for all units."""
    pq.write_table(table, path, compression="zstd", compression_level=1)


def read_unit(task: ReadUnit, context: UnitContext) -> UnitReport:
    """Read a part of a source and cut it into raw units of `unit_bytes` of text."""
    source = context.source(task.source)
    tally, samples = Tally("read", source.name), Samples("read", source.name, context.prepare)
    raw: list[FileEntry] = []
    buffer: list[Document] = []
    filled = 0
    fields: Counter[str] = Counter()
    encodings: Counter[str] = Counter()
    items = read_documents(task.read, source, max_bytes=context.prepare.clean.max_bytes, encodings=encodings)
    for record, item in enumerate(items):
        identity = document_identity(source.name, task.read.index, record)
        if isinstance(item, Rejected):
            tally.drop(item.reason, item.num_bytes)
            samples.add(item.reason, DocumentKey(identity, item.id), item.preview)
            continue
        num_bytes = len(item.text.encode())
        tally.keep(num_bytes)
        fields.update(name for name in _ABOUT if getattr(item, name) is not None)
        # A document larger than a unit becomes a unit by itself.
        if buffer and filled + num_bytes > context.prepare.unit_bytes:
            raw.append(_write_raw(task, context, len(raw), buffer))
            buffer, filled = [], 0
        buffer.append(dataclasses.replace(item, identity=identity))
        filled += num_bytes
    if buffer:
        raw.append(_write_raw(task, context, len(raw), buffer))
    inputs = pin_inputs(task.read, source)
    pins = write_content(context.root, f"{INPUTS}/{task.unit}", ".parquet", lambda path: write_inputs(inputs, path))
    outputs: Outputs = {"raw": raw, "inputs": pins, "dropped": write_dropped(task, context, samples)}
    facts = UnitFacts(reports=(tally.report(),), samples=samples.records(), encodings=encodings, fields=fields)
    return finish_unit(task, context, "read", outputs, facts)


def _write_raw(task: UnitTask, context: UnitContext, number: int, documents: list[Document]) -> FileEntry:
    table = pa.table([[getattr(d, name) for d in documents] for name in RAW_SCHEMA.names], schema=RAW_SCHEMA)
    return write_content(context.root, f"raw/{task.unit}-{number:05d}", ".parquet", lambda path: write_parquet(table, path))


def clean_unit(task: CleanUnit, context: UnitContext) -> UnitReport:
    """Clean the documents of a raw unit and compute their duplicate keys."""
    source, prepare = context.source(task.source), context.prepare
    tally, samples = Tally("clean", source.name), Samples("clean", source.name, prepare)
    kept: list[Document] = []
    sizes: list[int] = []
    languages: Counter[str] = Counter()
    redacted: Counter[str] = Counter()
    invisible: Counter[str] = Counter()
    rows = read_columns(context.file(task.raw)).to_pylist()
    given = id_keys([(row["id"], row["text"]) for row in rows], source.name, place=context.sources.index(source))
    for row in rows:
        before = len(row["text"].encode())
        document = Document(source=source.name, **row)
        verdict = clean(document, prepare.clean)
        if isinstance(verdict, Dropped):
            tally.drop(verdict.reason, before)
            samples.add(verdict.reason, document.key, document.text)
            continue
        kept.append(verdict.document)
        redacted.update(verdict.redacted)
        invisible.update(verdict.invisible)
        languages[verdict.document.language or UNKNOWN] += 1
        sizes.append(len(verdict.document.text.encode()))
        tally.keep(before, edited_to=sizes[-1])
    texts = [document.text for document in kept]
    exact = [exact_hash(text) for text in texts]
    columns = [*[[getattr(d, name) for d in kept] for name in RAW_SCHEMA.names], sizes, exact]
    table = pa.table(columns, schema=CLEAN_SCHEMA)
    keys, sketches = signatures(
        texts,
        exact,
        first=task.number << REFERENCE_BITS,
        salt=seeded_uint64("scope", source.name) if _is_apart(source, prepare) else 0,
        config=prepare.near_duplicates,
        seed=prepare.seed,
    )
    # By key, so that all documents that share one meet in one partition.
    ids_in = id_partitions(task.partitions)
    place, id_place = (
        (table[name].to_numpy() % np.uint64(number)).astype(np.int64)
        for table, name, number in ((keys, "key", task.partitions), (given, "id", ids_in))
    )
    stem = task.unit
    outputs: Outputs = {
        "clean": write_content(context.root, f"clean/{stem}", ".parquet", lambda p: write_parquet(table, p)),
        "keys": write_content(
            context.root, f"keys/{stem}", ".arrow", lambda p: write_partitions(keys, place, p, task.partitions)
        ),
        "ids": write_content(context.root, f"ids/{stem}", ".arrow", lambda p: write_partitions(given, id_place, p, ids_in)),
        "sketches": write_content(context.root, f"sketches/{stem}", ".npy", lambda p: _write_array(p, sketches)),
        "dropped": write_dropped(task, context, samples),
    }
    counts = {"languages": languages, "redacted": redacted, "invisible": invisible}
    facts = UnitFacts(reports=(tally.report(),), samples=samples.records(), **counts)
    return finish_unit(task, context, "clean", outputs, facts)


def id_partitions(partitions: int) -> int:
    """The partitions of ids, of which there is one per document, where its keys are in so many."""
    return -(-partitions // _KEYS_PER_ID)


def _is_apart(source: SourceConfig, prepare: PrepareConfig) -> bool:
    """Whether a source is compared with itself only: examples for classifiers are no text that another source could repeat."""
    return source.role == "seed" or prepare.near_duplicates.scope == "source"


def _write_array(path: Path, array: Sketches) -> None:
    with path.open("wb") as out:  # np.save would append .npy to a path
        np.save(out, array, allow_pickle=False)
