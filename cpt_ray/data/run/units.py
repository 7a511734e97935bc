"""The unit of preparation: where its files and its report are, how drops are counted and sampled, how a rerun resumes.

A unit's files are written under an attempt-unique name and renamed to one that contains their content hash; its `UnitReport` is
written last, so a unit with a valid report is complete. Memory: nothing per document beyond at most `_SAMPLES` samples per
reason.

Guarantee: a stray file of a killed attempt is never read, and the same unit gets the same file names on any machine.
"""

from __future__ import annotations

import heapq
import os
import secrets
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.words import seeded_uint64
from cpt_ray.edges import storage, store
from cpt_ray.errors import ArtifactError
from cpt_ray.records import Amount, DocumentKey, FileEntry, Record, StageReport, UnitFacts, UnitReport

_SAMPLES = 3
_SAMPLE_CHARACTERS = 200
_NAME_DIGITS = 12


_NOT_ASKED: set[str] = set()
Outputs: TypeAlias = Mapping[str, FileEntry | Sequence[FileEntry]]
"""Files of a unit, by kind."""


class UnitContext(Record):
    """Context of all tasks of a stage: the artifact's folder, the folders of its inputs by name, and the settings."""

    folder: str
    inputs: dict[str, str] = Field(default_factory=dict)
    sources: tuple[SourceConfig, ...]
    prepare: PrepareConfig

    @property
    def root(self) -> Path:
        """The artifact's folder, on this node."""
        return store.here(self.folder)

    def file(self, name: str) -> Path:
        """A file of the artifact, to read."""
        return store.fetched(self.root / name)

    def input(self, artifact: str, name: str) -> Path:
        """A file of an input, to read."""
        return store.fetched(store.here(self.inputs[artifact]) / name)

    def source(self, name: str) -> SourceConfig:
        """The source with that name."""
        return next(source for source in self.sources if source.name == name)


class UnitTask(Record):
    """One unit of work of one stage. Subclasses add stage-specific fields; file names are relative to the folder."""

    unit: str
    source: str

    def model_post_init(self, context: object) -> None:  # noqa: ARG002  (of pydantic)
        """Share the set of fields that were given, half of a task's memory: a driver holds 10^5 of them, and asks for none."""
        object.__setattr__(self, "__pydantic_fields_set__", _NOT_ASKED)

    def checksum(self, context: UnitContext) -> int:
        """A checksum that changes with the task or the settings, but not with the folder or the workers."""
        settings = context.model_copy(update={"folder": "", "inputs": {}})
        return zlib.crc32((self.to_json() + settings.to_json()).encode())


def write_content(folder: Path, stem: str, suffix: str, write: Callable[[Path], object]) -> FileEntry:
    """Write a file with `write`, then rename it to `<stem>-<hash><suffix>`.

    Args:
        folder: The artifact's folder.
        stem: Path of the file below it, without hash and suffix.
        suffix: File extension, with the dot.
        write: Called with the temporary path to write to.

    Returns:
        The file's entry; the same content always gets the same name.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    # Two attempts can write the same unit at once (tasks of a killed driver live on for seconds), so temporary names are
    # unique; they are next to the target, because a rename is atomic only within a file system.
    place = folder / f"{stem}{suffix}"
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        digest, size = storage.hash_file(temporary), temporary.stat().st_size
        final = folder / f"{stem}-{digest[:_NAME_DIGITS]}{suffix}"
        os.replace(temporary, final)
        store.push(final)
    except OSError as error:
        raise storage.unwritable(place, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return FileEntry(path=final.relative_to(folder).as_posix(), size_bytes=size, sha256=digest)


def read_columns(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns; opened once, where `pq.read_table` would open it twice."""
    with pq.ParquetFile(path) as file:
        return file.read(None if columns is None else list(columns))


def keep_bytes(folder: Path, stem: str, suffix: str, data: bytes) -> FileEntry:
    """Write bytes as a file named by its content; see `write_content`."""
    return write_content(folder, stem, suffix, lambda path: path.write_bytes(data))


def finish_unit(
    task: UnitTask,
    context: UnitContext,
    stage: str,
    outputs: Outputs,
    facts: UnitFacts | None = None,
) -> UnitReport:
    """Write the unit's report, its last file: after this, the unit is done.

    Args:
        task: The task that was done.
        context: The artifact's folder and the settings.
        stage: The stage.
        outputs: Files, by kind.
        facts: What is known about the unit besides its files.

    Raises:
        DataError: If a stage lost documents or bytes.
    """
    facts = facts or UnitFacts()
    # Checked before the report exists: a unit that lost documents is not done.
    for found in facts.reports:
        found.check()
    report = UnitReport(
        unit=task.unit,
        stage=stage,
        task_checksum=task.checksum(context),
        pid=os.getpid(),
        node=socket.gethostname(),
        outputs={name: (entries,) if isinstance(entries, FileEntry) else tuple(entries) for name, entries in outputs.items()},
        **{name: getattr(facts, name) for name in UnitFacts.model_fields},
    )
    storage.write_atomic(_report_path(context.root, stage, task.unit), report.to_json())
    return report


def finished_units(tasks: Sequence[UnitTask], context: UnitContext, stage: str) -> Iterator[UnitReport]:
    """The reports of the units that an earlier attempt finished; the work of the others is still to be done."""
    if not _report_path(context.root, stage, "").parent.is_dir() and not store.is_mirrored(context.root):
        return
    stored = store.sizes(context.root)
    if stored is not None:
        reports = (f"units/{stage}/{task.unit}.json" for task in tasks)
        store.fetched_files(context.root / name for name in reports if name in stored)
    for task in tasks:
        if (report := finished_unit(task, context, stage, stored)) is not None:
            yield report


def finished_unit(
    task: UnitTask, context: UnitContext, stage: str, stored: Mapping[str, int] | None = None
) -> UnitReport | None:
    """The report of a unit that an earlier attempt finished, or None if the work is still to be done.

    A report counts only if it matches the task and settings, and all of its files exist with the recorded sizes.

    Args:
        task: The unit.
        context: The artifact's folder and the settings.
        stage: The stage.
        stored: Sizes of the files in the store, if the folder is the mirror of one.
    """
    path = _report_path(context.root, stage, task.unit)
    try:
        report = UnitReport.load(path)
        if stored is None:
            storage.verify_files(context.root, report.files, deep=False)
        elif path.relative_to(context.root).as_posix() not in stored or any(
            stored.get(entry.path) != entry.size_bytes for entry in report.files
        ):
            return None
    except (FileNotFoundError, ValidationError, ArtifactError):
        return None
    return report if report.task_checksum == task.checksum(context) else None


def report_entry(report: UnitReport, text: str) -> FileEntry:
    """The entry of a unit's report itself, which `finish_unit` wrote as this text."""
    data = text.encode()
    path = f"units/{report.stage}/{report.unit}.json"
    return FileEntry(path=path, size_bytes=len(data), sha256=storage.hash_bytes(data))


def keep_report(context: UnitContext, report: UnitReport, text: str) -> None:
    """Keep what a task of another node returned, as this text, in this node's mirror too, whose files it describes."""
    path = _report_path(context.root, report.stage, report.unit)
    if store.is_mirrored(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _report_path(folder: Path, stage: str, unit: str) -> Path:
    return folder / "units" / stage / f"{unit}.json"


def unit_report(folder: Path, stage: str, unit: str) -> UnitReport:
    """Read the report of a unit of a finished artifact.

    Raises:
        ArtifactError: If it is missing or unreadable.
    """
    path = store.fetched(_report_path(folder, stage, unit))
    try:
        return UnitReport.load(path)
    except (FileNotFoundError, ValidationError):
        raise ArtifactError(
            f"{path}: unit {unit} of stage {stage} has no readable report",
            fix=f"delete {folder} and re-run the same command; it will be rebuilt",
        ) from None


class Tally:
    """Counts what one stage does to the documents of one source in one unit."""

    def __init__(self, stage: str, source: str) -> None:
        self._stage = stage
        self._source = source
        self._input = [0, 0]
        self._kept = [0, 0]
        self._edited = 0
        self._dropped: dict[str, list[int]] = {}

    def keep(self, num_bytes: int, *, edited_to: int | None = None) -> None:
        """Count a kept document of `num_bytes`, which the stage rewrote to `edited_to` bytes."""
        after = num_bytes if edited_to is None else edited_to
        _add(self._input, num_bytes)
        _add(self._kept, after)
        self._edited += num_bytes - after

    def drop(self, reason: str, num_bytes: int) -> None:
        """Count a dropped document of `num_bytes`."""
        _add(self._input, num_bytes)
        _add(self._dropped.setdefault(reason, [0, 0]), num_bytes)

    def report(self) -> StageReport:
        """The counts as a record, with reasons in alphabetical order."""
        return StageReport(
            stage=self._stage,
            source=self._source,
            input=_amount(self._input),
            kept=_amount(self._kept),
            dropped={reason: _amount(counts) for reason, counts in sorted(self._dropped.items())},
            edited_bytes=self._edited,
        )


def _add(counts: list[int], num_bytes: int) -> None:
    counts[0] += 1
    counts[1] += num_bytes


def _amount(counts: list[int]) -> Amount:
    return Amount(documents=counts[0], bytes=counts[1])


DROPPED_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("stage", "source", "reason", "identity", "id")]
    + [("bytes", pa.int64()), ("text", pa.string())]
)


class Samples:
    """A seeded sample of dropped documents: at most three per reason, independent of their order.

    Drawn by id and text, not by identity, which depends on how sources are cut into tasks; documents that share an id are drawn
    one by one.

    Args:
        stage: The stage that drops them.
        source: Their source.
        prepare: Provides the seed of the sample, and whether all of them are kept (`keep_dropped`).
    """

    def __init__(self, stage: str, source: str, prepare: PrepareConfig) -> None:
        self._stage, self._source, self._seed = stage, source, prepare.seed
        self._best: dict[str, list[tuple[int, DocumentKey, str]]] = {}
        self._all: list[tuple[str, DocumentKey, str]] | None = [] if prepare.keep_dropped else None

    def add(self, reason: str, document: DocumentKey, text: str) -> None:
        """Add a dropped document."""
        if self._all is not None:
            self._all.append((reason, document, text))
        shown = text[:_SAMPLE_CHARACTERS]
        entry = (-seeded_uint64("sample", self._seed, document.id, shown), document, shown)
        chosen = self._best.setdefault(reason, [])
        if len(chosen) < _SAMPLES:
            heapq.heappush(chosen, entry)
        # The smallest hashes win whatever the order of arrival, so the sample does not depend on how units were cut.
        elif entry > chosen[0]:
            heapq.heapreplace(chosen, entry)

    def records(self) -> list[dict[str, str]]:
        """The sample, by reason and then in seeded order."""
        return [
            {"stage": self._stage, "source": self._source, "reason": reason, **document._asdict(), "text": text}
            for reason, chosen in sorted(self._best.items())
            for _, document, text in sorted(chosen, reverse=True)
        ]

    def dropped_rows(self) -> list[dict[str, object]]:
        """Every dropped document, as rows of `DROPPED_SCHEMA`; none unless `prepare.keep_dropped` is set."""
        return [
            {
                "stage": self._stage,
                "source": self._source,
                "reason": reason,
                **document._asdict(),
                "bytes": len(text.encode()),
                "text": text,
            }
            for reason, document, text in self._all or ()
        ]


def write_dropped(task: UnitTask, context: UnitContext, *samples: Samples) -> list[FileEntry]:
    """Write the documents that a task dropped, with reasons, if they are to be kept and there are any."""
    rows = [row for sample in samples for row in sample.dropped_rows()]
    if not rows:
        return []
    table = pa.Table.from_pylist(rows, schema=DROPPED_SCHEMA)
    stem = f"dropped/{rows[0]['stage']}/{task.unit}"
    return [write_content(context.root, stem, ".parquet", lambda path: pq.write_table(table, path, compression="zstd"))]


def merge_samples(samples: Iterable[dict[str, str]], prepare: PrepareConfig) -> tuple[dict[str, str], ...]:
    """Reduce the samples of many units to three per stage, source and reason."""
    groups: dict[tuple[str, str], Samples] = {}
    for sample in samples:
        key = (sample["stage"], sample["source"])
        document = DocumentKey(sample["identity"], sample["id"])
        groups.setdefault(key, Samples(*key, prepare)).add(sample["reason"], document, sample["text"])
    return tuple(record for _, group in groups.items() for record in group.records())
