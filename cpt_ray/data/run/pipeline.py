"""The data verbs: prepare documents, draw held-out sets, pack shards, scan packed text.

Flow: sources -> `prepare_documents` -> documents folder -> `draw_held_out` -> held-out folder -> `pack_shards` -> shards folder
with a manifest; `scan_packed` scans it for exams added later. Each stage maps a function over units, one per task, on Ray Data
or in processes of this machine (`run_stage`); a task reads files, writes files and returns a small report, so no text passes
through the object store. Memory on the driver: the plan (one entry per file), the files of units as columns, and the n-grams of
held-out text.

Guarantee: the output depends on the sources and the settings, not on the number of workers or on how often the work was killed
and restarted.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt_ray.config.sections.evaluate import LEAST_UNITS
from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.dedup.signatures import threshold
from cpt_ray.data.read import check_bad_share, plan_reads
from cpt_ray.data.rows.shards import FORMAT_VERSION
from cpt_ray.data.rows.tokenize import ModelTokenizer, ResolvedTokenizer, resolve_tokenizer, token_dtype
from cpt_ray.data.run import document_tasks, training_tasks
from cpt_ray.data.run.document_tasks import CleanUnit, ReadUnit
from cpt_ray.data.run.duplicates import find_duplicates, order_of_priority, remove_scratch
from cpt_ray.data.run.funnel import check_funnel, heavy_drops, refuse_empty
from cpt_ray.data.run.late_scan import LateScanUnit, late_scan_unit
from cpt_ray.data.run.merge import (
    drawn_ngrams,
    merge_drawn,
    shard_table,
    unit_files,
    write_exam_scan,
)
from cpt_ray.data.run.profile import profile_corpus, profile_tasks
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.data.run.run_stage import Progress, TaskT, run_stage
from cpt_ray.data.run.training_tasks import DrawUnit, PackUnit
from cpt_ray.data.run.units import UnitContext, keep_bytes, merge_samples, read_columns
from cpt_ray.data.split import FEWEST_TEST_DOCUMENTS, ContainmentIndex, fill_test_set, held_out_share
from cpt_ray.edges import store
from cpt_ray.errors import DataError
from cpt_ray.records import (
    DocumentsRecord,
    HeldOutRecord,
    HeldOutSet,
    Made,
    ShardManifest,
    StageReport,
    UnitReport,
)

_LOG = logging.getLogger(__name__)
_KEYS_PER_PARTITION = 4_000_000
"""As long as there are few partitions: the more there are, the more processes compare."""
_PARTITIONS = 16
"""As many as that, unless they would be too large: of each unit, keys, sketches and repeats are opened once per partition."""
_LARGEST_PARTITION = 150_000_000
"""Keys whose comparison takes 6.5 GB in one process."""


@dataclass(frozen=True)
class DataJob:
    """The arguments common to all verbs of this module.

    Attributes:
        sources: The sources, in the order that decides, after the role, which of two duplicates is kept.
        prepare: Settings.
        folder: The artifact's folder, on a path visible to every node.
        num_workers: Units processed in parallel, one CPU each.
        progress: Called after every finished unit.
        pool: Processes on this machine to use instead of Ray.
        labels: Of the nodes to use, as Ray's `label_selector`.
    """

    sources: Sequence[SourceConfig]
    prepare: PrepareConfig
    folder: Path
    num_workers: int
    progress: Progress | None = None
    pool: Executor | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def context(self, **inputs: Path) -> UnitContext:
        """The context of tasks: the settings, and the folders of other artifacts by name."""
        folders = {name: str(path) for name, path in inputs.items()}
        return UnitContext(folder=str(self.folder), inputs=folders, sources=tuple(self.sources), prepare=self.prepare)

    def run(
        self, stage: str, work: Callable[[TaskT, UnitContext], UnitReport], tasks: Sequence[TaskT], context: UnitContext
    ) -> UnitReports:
        """Run the tasks of a stage that no earlier attempt finished."""
        run = functools.partial(run_stage, context=context, num_workers=self.num_workers, progress=self.progress)
        return run(stage, work, tasks, pool=self.pool, labels=self.labels)


def prepare_documents(job: DataJob) -> DocumentsRecord:
    """Read, clean and deduplicate all sources.

    Returns:
        The record of the artifact, with units in canonical order.

    Raises:
        DataError: If a source cannot be read, or nothing of it is left.
    """
    sources, prepare, folder = job.sources, job.prepare, job.folder
    context = job.context()
    stage = functools.partial(job.run, context=context)
    reads = [
        ReadUnit(unit=f"{source.name}-read-{task.index:05d}", source=source.name, read=task)
        for source in sources
        for task in plan_reads(source, prepare.unit_bytes)
    ]
    read = stage("read", document_tasks.read_unit, reads)
    check_bad_share(read.reports, sources, read.samples)
    _checked(read.reports, sources)
    _warn_of_empty_fields(read, sources)
    cleans = _clean_tasks(reads, read, sources, prepare)
    cleaned = stage("clean", document_tasks.clean_unit, cleans)
    _checked([*read.reports, *cleaned.reports], sources)
    pairs, decided, components = find_duplicates(stage, context, cleans, cleaned)
    reports = _checked([*read.reports, *cleaned.reports, *decided.reports], sources)
    profile = profile_corpus(stage, folder, profile_tasks(cleans, cleaned, decided))
    for warning in heavy_drops(reports):
        _LOG.warning(warning)
    # Raw text and keys are as large as the corpus; nothing after this line reads them.
    remove_scratch(folder)
    return DocumentsRecord(
        units=tuple(task.unit for task in cleans),
        reports=reports,
        task_pids={
            "read": read.pids,
            "clean": cleaned.pids,
            "near_duplicates": tuple(sorted({*pairs.pids, *decided.pids})),
        },
        near_duplicate_threshold=threshold(prepare.near_duplicates),
        components=components,
        languages=cleaned.by_source("languages"),
        redacted=cleaned.by_source("redacted"),
        invisible=cleaned.by_source("invisible"),
        repeated_ids=pairs.repeated_ids,
        encodings=read.by_source("encodings"),
        profile=profile,
        samples=merge_samples([*read.samples, *cleaned.samples, *decided.samples], prepare),
    )


def _warn_of_empty_fields(read: UnitReports, sources: Sequence[SourceConfig]) -> None:
    """Warn of a field name in the study file that no record of its source has."""
    have = read.by_source("fields")
    for source in sources:
        for name in ("language", "origin", "date", "license", "label"):
            key = getattr(source, f"{name}_field")
            # A default language hides which documents have one of their own; `check` has looked at a sample.
            if key is not None and not have.get(source.name, {}).get(name):
                _LOG.warning(f"source {source.name}: none of its documents has {name}_field {key!r}: the setting has no effect")


def _clean_tasks(
    reads: Sequence[ReadUnit], read: UnitReports, sources: Sequence[SourceConfig], prepare: PrepareConfig
) -> list[CleanUnit]:
    """One task per raw file, in the order of the study file; numbered by priority, which decides between two duplicates."""
    partitions = _partitions(read, prepare)
    numbers = itertools.count()
    source_of = {task.unit: task.source for task in reads}
    raw: dict[str, list[str]] = {source.name: [] for source in sources}
    for file in read.files("raw"):
        raw[source_of[file.unit]].append(file.path)
    by_source: dict[str, list[CleanUnit]] = {}
    for name in order_of_priority(sources):
        # Numbers follow priority, not the study file: the lowest number of a component is the document that is kept.
        by_source[name] = [
            CleanUnit(unit=f"{name}-{place:05d}", source=name, number=next(numbers), raw=path, partitions=partitions)
            for place, path in enumerate(raw[name])
        ]
    return [task for source in sources for task in by_source[source.name]]


def _partitions(read: UnitReports, prepare: PrepareConfig) -> int:
    documents = sum(report.kept.documents for report in read.reports)
    keys_each = 1 + (prepare.near_duplicates.bands if prepare.near_duplicates.enabled else 0)
    keys = documents * keys_each
    # At least two, so that small corpora run the same exchange as large ones.
    return max(2, min(_PARTITIONS, math.ceil(keys / _KEYS_PER_PARTITION)), math.ceil(keys / _LARGEST_PARTITION))


def draw_held_out(job: DataJob, documents: Made[DocumentsRecord]) -> HeldOutRecord:
    """Draw the validation and test sets of every source, all of a probe, and index their n-grams.

    Writes `<source>-<part>.jsonl` {identity, id, text} to the folder, in an order of which every prefix is a fair sample.

    Returns:
        The sets, with paths relative to the folder; an empty validation set is left out.

    Raises:
        DataError: If a source's test set has fewer than two documents.
    """
    prepare, folder = job.prepare, job.folder
    sources = [source for source in job.sources if source.held_out_role is not None]
    there = documents.record.kept_documents()
    shares = {one.name: held_out_share(there[one.name], prepare.held_out, whole=one.role == "probe") for one in sources}
    tasks = [
        DrawUnit(**files, share=shares[files["source"]])
        for files in unit_files(documents.folder, documents.record.units)
        if files["source"] in shares
    ]
    draw = functools.partial(job.run, "held_out", training_tasks.draw_unit, context=job.context(documents=documents.folder))
    drawn = draw(tasks=tasks)
    floor = _floor(tasks, drawn, job, documents.folder, shares)
    if floor:
        # The others are found done.
        drawn = draw(tasks=[task.model_copy(update={"floor": floor.get(task.source, ())}) for task in tasks])
    sets: list[HeldOutSet] = []
    for source in sources:
        sets.extend(merge_drawn(drawn, source, folder))
        test = sum(entry.documents for entry in sets if entry.source == source.name and entry.part == "test")
        if test < FEWEST_TEST_DOCUMENTS:
            probe = source.role == "probe"
            change = "lower prepare.held_out.validation_share" if probe else "raise prepare.held_out.share"
            raise DataError(
                f"source {source.name}: the test set has {test} of {there[source.name]} documents, but scores need at least "
                f"{FEWEST_TEST_DOCUMENTS}; {_test_share(source, prepare)}",
                fix=f"add documents to this source, or {change}",
            )
        if test < LEAST_UNITS:
            _LOG.warning(
                f"source {source.name}: {test} test documents, of which no difference can be judged: an interval needs "
                f"{LEAST_UNITS}; add documents, or {'lower' if source.role == 'probe' else 'raise'} "
                f"prepare.held_out.{'validation_share' if source.role == 'probe' else 'share'}"
            )
    ContainmentIndex.build(drawn_ngrams(drawn, folder)).save(folder / "containment")
    store.push_folder(folder / "containment")
    return HeldOutRecord(
        sets=tuple(sets),
        reports=check_funnel(drawn.reports, [source.name for source in sources]),
        task_pids={"held_out": drawn.pids},
        shares=shares,
        floor=floor,
    )


def _floor(
    tasks: Sequence[DrawUnit], drawn: UnitReports, job: DataJob, documents: Path, shares: Mapping[str, float]
) -> dict[str, tuple[str, ...]]:
    """The components that sources hold out beyond their share, because it gave them fewer than two test documents."""
    found, prepare = {}, job.prepare
    tested: Counter[str] = Counter()
    for task, path in zip(tasks, drawn.paths("table"), strict=True):
        parts = read_columns(store.fetched(job.folder / path), columns=["part"])["part"]
        tested[task.source] += sum(part == "test" for part in parts.to_pylist())
    for source in (source for source in job.sources if source.held_out_role and tested[source.name] < FEWEST_TEST_DOCUMENTS):
        counts = training_tasks.count_components((task for task in tasks if task.source == source.name), documents)
        added = fill_test_set(counts, prepare.held_out, prepare.seed, share=shares[source.name])
        if added:
            found[source.name] = added
            _LOG.warning(
                f"source {source.name}: {_test_share(source, prepare)}, which of its {counts.total()} documents gives no test "
                f"set; {len(added)} more near-duplicate components are for the test set"
            )
    return found


def _test_share(source: SourceConfig, prepare: PrepareConfig) -> str:
    """The settings that decide how much of a source is for its test set."""
    share = f"prepare.held_out.validation_share is {prepare.held_out.validation_share:g}"
    if source.role == "probe":
        return f"a probe is held out whole, and {share}"
    return f"prepare.held_out.share is {prepare.held_out.share:g}, and {share}"


def pack_shards(
    job: DataJob,
    documents: Made[DocumentsRecord],
    held_out: Made[HeldOutRecord],
    tokenizer: ModelTokenizer,
    exam_items: Path | None,
) -> ShardManifest:
    """Drop held-out and exam text, tokenize the rest of what arms train on and pack it into shards.

    Also writes the exam items found to the folder: `exam_hits.jsonl` and `exam_scan.json`.

    Args:
        job: Sources, settings, folder.
        documents: The prepared documents.
        held_out: The held-out sets drawn from them.
        tokenizer: Tokenizer of the model that will train on the shards.
        exam_items: File of `ExamItem`s, or None for no exams.

    Returns:
        The manifest, with the reports of every stage from the raw files onward.

    Raises:
        DataError: If the tokenizer does not fit the model, or nothing of a source is left.
    """
    prepare, folder = job.prepare, job.folder
    packs = {source.name for source in job.sources if source.is_packed}
    resolved = resolve_tokenizer(tokenizer)
    common = _pack_inputs(folder, prepare, resolved, exam_items, tokenizer.vocabulary_size)
    tasks = [
        PackUnit(**files, **common, share=held_out.record.shares[files["source"]], floor=held_out.record.floors)
        for files in unit_files(documents.folder, documents.record.units)
        if files["source"] in packs
    ]
    context = job.context(documents=documents.folder, held_out=held_out.folder)
    packed = job.run("pack", training_tasks.pack_unit, tasks, context)
    write_exam_scan(packed, folder, folder / common["exam_items"] if common["exam_items"] else None, prepare)
    reports = _checked([*documents.record.reports, *_probed(held_out.record, packs), *packed.reports], job.sources)
    # Of what `prepare_documents` dropped, it has warned.
    for warning in heavy_drops(reports, of=packed.reports):
        _LOG.warning(warning)
    return ShardManifest(
        format_version=FORMAT_VERSION,
        sequence_length=prepare.pack.sequence_length,
        vocabulary_size=tokenizer.vocabulary_size,
        token_dtype=common["token_dtype"],
        separator_id=resolved.separator_id,
        bos_id=resolved.bos_id,
        around=tokenizer.tokens,
        tokenizer_sha256=resolved.sha256,
        shards=shard_table(packed),
        samples=tuple(packed.samples),
        reports=reports,
        task_pids={
            **documents.record.task_pids,
            **held_out.record.task_pids,
            # One task does both: a document is read from disk once.
            **dict.fromkeys(("decontaminate", "tokenize"), packed.pids),
        },
    )


def scan_packed(job: DataJob, documents: Made[DocumentsRecord], shards: Made[ShardManifest], exam_items: Path) -> None:
    """Scan the documents of packed shards for items of exams that were not known when they were packed.

    Nothing is removed: the rows may already have been trained on. Writes `exam_hits.jsonl` and `exam_scan.json` to the folder.

    Args:
        job: Sources, settings, folder.
        documents: The prepared documents.
        shards: The shards packed from them.
        exam_items: File of `ExamItem`s.
    """
    items = keep_bytes(job.folder, "inputs/exam-items", ".jsonl", exam_items.read_bytes()).path
    table = shards.record.shards
    indices = dict(zip(table.arrow("unit").to_pylist(), table.arrow("index_path").to_pylist(), strict=True))
    units = [unit for unit in documents.record.units if unit in indices]
    tasks = [
        LateScanUnit(**files, index=indices[files["unit"]], exam_items=items) for files in unit_files(documents.folder, units)
    ]
    scanned = job.run("late_scan", late_scan_unit, tasks, job.context(documents=documents.folder, shards=shards.folder))
    write_exam_scan(scanned, job.folder, job.folder / items, job.prepare, late=True)


def _pack_inputs(
    folder: Path, prepare: PrepareConfig, resolved: ResolvedTokenizer, exam_items: Path | None, vocabulary_size: int
) -> dict[str, Any]:
    """Write tokenizer and exam items next to the shards, named by content; return the fields common to all pack tasks."""
    exams = None
    if exam_items is not None and prepare.decontaminate.enabled:
        exams = keep_bytes(folder, "inputs/exam-items", ".jsonl", exam_items.read_bytes()).path
    return {
        "tokenizer": keep_bytes(folder, "inputs/tokenizer", ".json", resolved.definition.encode()).path,
        "exam_items": exams,
        "separator_id": resolved.separator_id,
        "bos_id": resolved.bos_id,
        "token_dtype": token_dtype(vocabulary_size),
    }


def _probed(held_out: HeldOutRecord, packs: Collection[str]) -> list[StageReport]:
    """What became of the probes, which end where others go on."""
    return [report for report in held_out.reports if report.source not in packs]


def _checked(reports: Sequence[StageReport], sources: Sequence[SourceConfig]) -> tuple[StageReport, ...]:
    """The funnel so far, checked to lose nothing and to leave something of every source but a probe, which is held out."""
    totals = check_funnel(reports, [source.name for source in sources])
    held_out = {report.source for report in totals if report.stage == "held_out"}
    refuse_empty(totals, [s.name for s in sources if s.role != "probe" or s.name not in held_out])
    return totals
