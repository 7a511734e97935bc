"""Worker tasks on one clean unit: draw its held-out documents, then write its training rows.

Chains split, decontaminate, tokenize, pack and shards; `pipeline` passes these functions to Ray Data. Files: `drawn/` (JSON
lines, and a table with the position and n-grams of each line); `shards/` (Arrow, and an index); `hits/`. Memory: one unit's
documents and tokens; the indices of held-out and exam text are loaded once per process.

Guarantee: a function reads only files that its task names and writes files named by their content, so it is idempotent.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import PrepareConfig
from cpt_ray.data import decontaminate, split
from cpt_ray.data.decontaminate import ExamIndex
from cpt_ray.data.rows.pack import pack, permute
from cpt_ray.data.rows.shard_index import write_index
from cpt_ray.data.rows.shards import write_shard
from cpt_ray.data.rows.token_rules import judge_tokens, unknown_ids
from cpt_ray.data.rows.tokenize import Encoder, Tokens, control_ids, control_spellings
from cpt_ray.data.run.units import (
    Samples,
    Tally,
    UnitContext,
    UnitTask,
    finish_unit,
    keep_bytes,
    read_columns,
    write_content,
    write_dropped,
)
from cpt_ray.data.split import ContainmentIndex, Part, document_ngrams, held_out_order, held_out_part
from cpt_ray.data.words import NO_WORDS, hash_words, seeded_share
from cpt_ray.edges import store
from cpt_ray.records import DocumentKey, ExamHit, FileEntry, PackedPieces, UnitFacts, UnitReport, read_items

CONTROL_REASON = "tokenize.control_token"
"""A document whose text encodes to a control token, whatever is done."""
DRAWN_SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("order", pa.float64()),
        ("bytes", pa.int64()),
        ("start", pa.int64()),
        ("size", pa.int64()),
        ("ngrams", pa.list_(pa.uint64())),
        ("ngram_words", pa.int64()),
    ]
)


class KeptUnit(UnitTask):
    """Read the documents of a clean unit that are no duplicates; both files are in the `documents` input."""

    clean: str
    near_duplicates: str


class DrawUnit(KeptUnit):
    """Draw the held-out documents of a clean unit."""

    share: float
    """Of the components, which is held out: 0 of a seed source, 1 of a probe that is not large."""
    floor: tuple[str, ...] = ()

    def part(self, component: str, prepare: PrepareConfig) -> Part | None:
        """The held-out half of a component, or None for training."""
        return held_out_part(component, prepare.held_out, prepare.seed, share=self.share, floor=self.floor)


class PackUnit(DrawUnit):
    """Turn the rest of a clean unit into rows."""

    exam_items: str | None
    tokenizer: str
    separator_id: int
    bos_id: int | None
    token_dtype: str


def kept_batches(task: KeptUnit, context: UnitContext, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The documents of a clean unit that were not dropped as duplicates, with some of its columns and their component."""
    table = read_columns(context.input("documents", task.clean), columns=list(columns))
    verdicts = read_columns(context.input("documents", task.near_duplicates))
    for name in verdicts.column_names:
        table = table.append_column(name, verdicts[name])
    # In pieces: Python rows of the whole table would hold the unit's text a second time.
    for batch in table.to_batches(max_chunksize=1000):
        yield batch.filter(batch.column("reason").is_null())


def kept_documents(
    task: KeptUnit, context: UnitContext, columns: Sequence[str] = ("identity", "id", "text", "bytes")
) -> Iterator[dict[str, Any]]:
    """The rows of `kept_batches`."""
    for batch in kept_batches(task, context, columns):
        yield from batch.to_pylist()


def document_key(row: Mapping[str, Any]) -> DocumentKey:
    """The name of a document of a clean unit."""
    return DocumentKey(row["identity"], row["id"])


def training_texts(
    tasks: Iterable[DrawUnit], context: UnitContext, share: float, counts: Counter[str], sizes: Counter[str]
) -> Iterator[str]:
    """The texts of documents that are not held out, in order, to learn a tokenizer from.

    Args:
        tasks: The units.
        context: The context of the tasks.
        share: Of the documents, drawn by identity, so that the draw depends on no worker.
        counts: Source to documents so far.
        sizes: Source to bytes so far.
    """
    for task in tasks:
        for row in kept_documents(task, context):
            held_out = task.part(row["component"], context.prepare) is not None
            if not held_out and seeded_share("tokenizer", context.prepare.seed, row["identity"]) < share:
                counts[task.source] += 1
                sizes[task.source] += row["bytes"]
                yield row["text"]


def count_components(tasks: Iterable[KeptUnit], documents_folder: Path) -> Counter[str]:
    """Documents of some units by component, without those that were dropped as duplicates; reads no text."""
    counts: Counter[str] = Counter()
    for task in tasks:
        verdicts = read_columns(store.fetched(documents_folder / task.near_duplicates), columns=["component", "reason"])
        counts.update(row["component"] for row in verdicts.to_pylist() if row["reason"] is None)
    return counts


def draw_unit(task: DrawUnit, context: UnitContext) -> UnitReport:
    """Write the held-out documents of a unit, with their positions and n-grams."""
    prepare = context.prepare
    tally = Tally("held_out", task.source)
    lines: list[bytes] = []
    rows: list[dict[str, Any]] = []
    start = 0
    for row in kept_documents(task, context):
        # By component, not by document: near-duplicates that were kept never straddle training and test.
        part = task.part(row["component"], prepare)
        if part is None:
            tally.keep(row["bytes"])
            continue
        tally.drop(split.REASON, row["bytes"])
        named = {name: row[name] for name in ("identity", "id", "text")}
        line = json.dumps(named, ensure_ascii=False).encode() + b"\n"
        grams, used = document_ngrams(row["text"], prepare.held_out.containment_ngram)
        place = {"part": part, "order": held_out_order(row["component"], prepare.seed), "bytes": row["bytes"]}
        rows.append({**place, "start": start, "size": len(line), "ngrams": grams, "ngram_words": used})
        lines.append(line)
        start += len(line)
    table = pa.Table.from_pylist(rows, schema=DRAWN_SCHEMA)
    stem = f"drawn/{task.unit}"
    outputs = {
        "documents": keep_bytes(context.root, stem, ".jsonl", b"".join(lines)),
        "table": write_content(context.root, stem, ".parquet", lambda path: pq.write_table(table, path)),
    }
    return finish_unit(task, context, "held_out", outputs, UnitFacts(reports=(tally.report(),)))


def write_hits(task: UnitTask, context: UnitContext, hits: Sequence[ExamHit]) -> list[FileEntry]:
    """Write the exam hits of a unit, if there are any."""
    if not hits:
        return []
    data = "".join(f"{hit.model_dump_json()}\n" for hit in hits).encode()
    return [keep_bytes(context.root, f"hits/{task.unit}", ".jsonl", data)]


# A worker process serves many units: each index is loaded once per process.
@functools.lru_cache(maxsize=2)
def load_containment(folder: str) -> ContainmentIndex:
    """The index of held-out text below the folder of that artifact, loaded once per process."""
    return ContainmentIndex.load(store.fetched_folder(store.here(folder) / "containment"))


@functools.lru_cache(maxsize=2)
def load_exams(path: str | None, ngram_words: int, min_ratio: float) -> ExamIndex:
    """The index of a file of exam items, built once per process."""
    return ExamIndex.build(read_items(Path(path)) if path else (), ngram_words, min_ratio)


@functools.lru_cache(maxsize=2)
def _encoder(path: str, separator_id: int, bos_id: int | None, dtype: str) -> Encoder:
    return Encoder.load(Path(path), separator_id=separator_id, bos_id=bos_id, dtype=dtype)


@functools.lru_cache(maxsize=2)
def _unknown(path: str) -> frozenset[int]:
    return unknown_ids(Path(path).read_text(encoding="utf-8"))


class _Control(NamedTuple):
    """The control tokens of a tokenizer: their ids, and a pattern that finds them spelled in a text."""

    ids: npt.NDArray[np.int64]
    spelled: re.Pattern[str] | None


@functools.lru_cache(maxsize=2)
def _control(path: str) -> _Control:
    definition = json.loads(Path(path).read_text(encoding="utf-8"))
    return _Control(np.array(sorted(control_ids(definition)), dtype=np.int64), control_spellings(definition))


def pack_unit(task: PackUnit, context: UnitContext) -> UnitReport:
    """Drop held-out and exam text from a unit, tokenize the rest and write it as packed rows."""
    prepare = context.prepare
    stages = ("held_out", "decontaminate", "tokenize")
    tallies = {stage: Tally(stage, task.source) for stage in stages}
    samples = {stage: Samples(stage, task.source, prepare) for stage in stages}
    index = load_containment(context.inputs["held_out"])
    rule = prepare.decontaminate
    items = str(context.file(task.exam_items)) if task.exam_items else None
    exams = load_exams(items, rule.ngram_words, rule.min_match_ratio)
    scanned = bool(len(index.hashes)) or bool(exams.grams)  # hashing words takes a tenth of the time to encode them
    keys: list[DocumentKey] = []
    texts: list[str] = []
    hits: list[ExamHit] = []
    for row in kept_documents(task, context):
        key, size, text = document_key(row), row["bytes"], row["text"]
        # Decided again from the same component and seed as in `draw_unit`; no list of held-out documents is passed around.
        if task.part(row["component"], prepare) is not None:
            tallies["held_out"].drop(split.REASON, size)
            continue
        hashes = hash_words(text) if scanned else NO_WORDS
        if index.contains(hashes, prepare.held_out.containment_share):
            tallies["held_out"].drop(split.OVERLAP_REASON, size)
            samples["held_out"].add(split.OVERLAP_REASON, key, text)
            continue
        tallies["held_out"].keep(size)
        matches = exams.find(hashes)
        if matches:
            hits.extend(exams.describe(matches, source=task.source, document=key, text=text))
            redacted = exams.redact(text) if rule.action == "redact" else None
            if redacted is None:
                tallies["decontaminate"].drop(decontaminate.REASON, size)
                samples["decontaminate"].add(decontaminate.REASON, key, text)
                continue
            text = redacted
        after = len(text.encode()) if matches else size
        tallies["decontaminate"].keep(size, edited_to=after)
        keys.append(key)
        texts.append(text)
    spelled = _control(str(context.file(task.tokenizer))).spelled
    spellings = 0 if spelled is None else sum(len(spelled.findall(text)) for text in texts)
    keys, tokens, lengths = _encode(task, context, keys, texts, tallies["tokenize"], samples["tokenize"])
    outputs, counts = _write_rows(task, context, keys, tokens, lengths)
    counts["control_spellings"] = spellings
    outputs["hits"] = write_hits(task, context, hits)
    outputs["dropped"] = write_dropped(task, context, *samples.values())
    facts = UnitFacts(
        reports=tuple(tally.report() for tally in tallies.values()),
        counts=counts,
        samples=tuple(record for sample in samples.values() for record in sample.records()),
    )
    return finish_unit(task, context, "pack", outputs, facts)


def shard_counts(pieces: PackedPieces, lengths: npt.NDArray[np.int64], sequence_length: int, *, bos: bool) -> dict[str, int]:
    """The counts of a shard's entry.

    Args:
        pieces: The packed documents.
        lengths: Tokens of each document, its separator and BOS included.
        sequence_length: Tokens per row.
        bos: Whether each document begins with BOS.
    """
    documents, tokens, segments = len(lengths), int(lengths.sum()), len(pieces.document)
    bos_tokens = documents if bos else 0
    return {
        "rows": pieces.num_rows,
        "documents": documents,
        "cut_documents": int((pieces.part == 1).sum()),
        "tokenizer_tokens": tokens - documents - bos_tokens,
        "separator_tokens": documents,
        "bos_tokens": bos_tokens,
        "tokens": tokens,
        "segments": segments,
        "padding": pieces.num_rows * sequence_length - tokens,
        "loss_tokens": tokens - segments,
    }


def _encode(
    task: PackUnit, context: UnitContext, keys: list[DocumentKey], texts: list[str], tally: Tally, samples: Samples
) -> tuple[list[DocumentKey], Tokens, npt.NDArray[np.int64]]:
    """Encode documents and drop those that violate a token rule; return the names, tokens and lengths of the rest."""
    tokenizer = str(context.file(task.tokenizer))
    tokens, lengths = _encoder(tokenizer, task.separator_id, task.bos_id, task.token_dtype).encode(texts)
    sizes = [len(text.encode()) for text in texts]
    verdicts = judge_tokens(
        tokens,
        lengths,
        sizes,
        context.prepare.token_rules,
        unknown=_unknown(tokenizer),
        before=0 if task.bos_id is None else 1,
        after=1,
    )
    verdicts = _refuse_control(verdicts, tokens, lengths, _control(tokenizer).ids, before=0 if task.bos_id is None else 1)
    for key, text, num_bytes, reason in zip(keys, texts, sizes, verdicts, strict=True):
        if reason is None:
            tally.keep(num_bytes)
        else:
            tally.drop(reason, num_bytes)
            samples.add(reason, key, text)
    kept = np.array([reason is None for reason in verdicts], dtype=np.bool_)
    if not kept.all():
        tokens, lengths = tokens[np.repeat(kept, lengths)], lengths[kept]
        keys = list(itertools.compress(keys, kept))
    return keys, tokens, lengths


def _refuse_control(
    verdicts: list[str | None],
    tokens: Tokens,
    lengths: npt.NDArray[np.int64],
    control: npt.NDArray[np.int64],
    *,
    before: int,
) -> list[str | None]:
    """Drop documents in which a control token is left: some engines hold them as words, which text can spell."""
    found = np.flatnonzero(np.isin(tokens, control))
    ends = np.cumsum(lengths)
    owners = np.searchsorted(ends, found, side="right")
    inside = (found >= ends[owners] - lengths[owners] + before) & (found < ends[owners] - 1)
    spoiled = set(owners[inside].tolist())
    return [CONTROL_REASON if place in spoiled else reason for place, reason in enumerate(verdicts)]


def _write_rows(
    task: PackUnit, context: UnitContext, keys: list[DocumentKey], tokens: Tokens, lengths: npt.NDArray[np.int64]
) -> tuple[dict[str, list[FileEntry]], dict[str, int]]:
    config = context.prepare.pack
    pieces = pack(lengths, config.sequence_length, config.strategy)
    pieces = permute(pieces, seed=context.prepare.seed, source=task.source, unit=task.unit)
    counts = shard_counts(pieces, lengths, config.sequence_length, bos=task.bos_id is not None)
    if counts["rows"] == 0:
        return {}, counts
    starts = np.cumsum(lengths) - lengths
    shape = {"sequence_length": config.sequence_length, "separator_id": task.separator_id}
    stem = f"shards/{task.unit}"
    shard = write_content(context.root, stem, ".arrow", lambda path: write_shard(path, pieces, tokens, starts, **shape))
    index = write_content(context.root, stem, ".index.parquet", lambda path: write_index(path, pieces, keys))
    return {"shard": [shard], "index": [index]}, counts
