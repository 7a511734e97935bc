"""The nouns of preparation: documents and what became of them, units, held-out sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field

from cpt_ray.errors import DataError
from cpt_ray.records.base import FileEntry, Record, SourceRole
from cpt_ray.records.profile import CorpusProfile


@dataclass(frozen=True, slots=True)
class Document:
    """One document on its way through `data`.

    `id` is the source's own id or a content hash. Of the rest None is what nobody said: `language` is an ISO code, `origin`
    where the text is from, `date` as the source writes it, `license` the document's own (else the source's holds).
    """

    id: str
    text: str
    source: str
    language: str | None = None
    license: str | None = None
    origin: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """The verdict of a stage that refuses a document; `reason` is counted by name."""

    reason: str


class Amount(Record):
    """Documents and the UTF-8 bytes of their text."""

    documents: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(documents=self.documents + other.documents, bytes=self.bytes + other.bytes)


class StageReport(Record):
    """What one stage did to one source: in = kept + dropped by reason, in documents and in bytes.

    `edited_bytes` is what a stage that rewrites text took away from (negative: added to) the documents that it kept.
    """

    stage: str
    source: str
    input: Amount
    kept: Amount
    dropped: dict[str, Amount] = Field(default_factory=dict)
    edited_bytes: int = 0

    def __add__(self, other: StageReport) -> StageReport:
        if (self.stage, self.source) != (other.stage, other.source):
            raise ValueError(f"cannot add reports of {self.stage}/{self.source} and {other.stage}/{other.source}")
        reasons = sorted({*self.dropped, *other.dropped})
        nothing = Amount()
        return StageReport(
            stage=self.stage,
            source=self.source,
            input=self.input + other.input,
            kept=self.kept + other.kept,
            dropped={r: self.dropped.get(r, nothing) + other.dropped.get(r, nothing) for r in reasons},
            edited_bytes=self.edited_bytes + other.edited_bytes,
        )

    def check(self) -> Self:
        """Return self if nothing was lost.

        Raises:
            DataError: If documents or bytes in differ from kept + dropped.
        """
        lost = sum(self.dropped.values(), Amount())
        if self.input.documents != self.kept.documents + lost.documents:
            raise DataError(
                f"stage {self.stage} of source {self.source} lost documents: {self.input.documents} in, "
                f"{self.kept.documents} kept, {lost.documents} dropped",
                fix="report this: it is a defect of the stage, not of the data",
            )
        if self.input.bytes != self.kept.bytes + lost.bytes + self.edited_bytes:
            raise DataError(
                f"stage {self.stage} of source {self.source} lost bytes: {self.input.bytes} in, {self.kept.bytes} kept, "
                f"{lost.bytes} dropped, {self.edited_bytes} edited",
                fix="report this: it is a defect of the stage, not of the data",
            )
        return self


def sum_reports(reports: Iterable[StageReport]) -> list[StageReport]:
    """Add up reports of the same stage and source, keeping the order of first appearance."""
    total: dict[tuple[str, str], StageReport] = {}
    for report in reports:
        key = (report.stage, report.source)
        total[key] = total[key] + report if key in total else report
    return list(total.values())


class ShownDocument(Record):
    """A member of a large component of duplicates, to be quoted."""

    reference: int
    """Unit and row of the document, as `dedup` numbers them."""
    id: str
    text: str
    """Its beginning."""


class UnitFacts(Record):
    """What a task says of a unit beside its files; each stage fills in what it knows."""

    reports: tuple[StageReport, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    """Numbers with names of their stage, such as `pairs` or `loss_tokens`."""
    samples: tuple[dict[str, str], ...] = ()
    """A few dropped documents: reason, id and the beginning of the text."""
    languages: dict[str, int] = Field(default_factory=dict)
    """Kept documents by language, of `clean`."""
    redacted: dict[str, int] = Field(default_factory=dict)
    """What placeholders replaced, by kind, of `clean`."""
    component_sizes: dict[str, int] = Field(default_factory=dict)
    """Components of duplicates by size class, of `components`."""
    shown: tuple[ShownDocument, ...] = ()


class UnitReport(UnitFacts):
    """What one task did to one unit: its files, its facts, and the process that did it."""

    unit: str
    stage: str
    task_checksum: int
    """Of the task and the settings; a report of another checksum is not of this work."""
    pid: int
    node: str
    outputs: dict[str, tuple[FileEntry, ...]]
    """The unit's files by what they are, such as `clean`, `keys` and `sketches`."""

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All of them."""
        return tuple(entry for entries in self.outputs.values() for entry in entries)

    def path(self, name: str) -> str:
        """Path of the only file of that name, relative to the artifact's folder."""
        (entry,) = self.outputs[name]
        return entry.path


class HeldOutSet(Record):
    """One half of a source's held-out documents: no arm trains on them, and no component lies in both halves.

    `path` names JSON lines {id, text} below the artifact's folder; any beginning of the file is a fair sample of the set.
    """

    source: str
    role: SourceRole
    part: Literal["validation", "test"]
    """`validation` is what training may watch and select on; `test` is what is reported, and nothing is chosen by it."""
    path: str
    documents: int
    bytes: int


class LargeComponent(Record):
    """One of the largest components of duplicates: ids and beginnings of some members, the kept document first."""

    documents: int
    members: tuple[str, ...]
    texts: tuple[str, ...]


class DuplicateComponents(Record):
    """What duplicate removal found."""

    pairs_compared: int
    """Documents that share a band, compared by their signatures; a pair counts once per partition that it shares a band in."""
    documents_left: int
    """Documents of crowded buckets that were similar to none of the representatives they were compared with."""
    sizes: dict[str, int]
    """Components by number of documents, in classes that double: `2`, `3-4`, `5-8`, ..."""
    largest: tuple[LargeComponent, ...]


class DocumentsRecord(Record):
    """Clean documents with their duplicate verdicts, per unit, in canonical order."""

    FILE = "documents.json"

    units: tuple[str, ...]
    """Unit names in canonical order: `source-NNNNN`."""
    reports: tuple[StageReport, ...]
    task_pids: dict[str, tuple[int, ...]]
    near_duplicate_threshold: float | None
    components: DuplicateComponents
    languages: dict[str, dict[str, int]]
    """Documents that cleaning kept, by source and language; `unknown` where neither the source nor the model was asked."""
    redacted: dict[str, dict[str, int]]
    """What placeholders replaced, by source and kind."""
    profile: CorpusProfile
    samples: tuple[dict[str, str], ...] = ()


class HeldOutRecord(Record):
    """The held-out sets of a study, and what drawing them took from the training text.

    To watch a run, read `HeldOutRecord.of(folder).of_part("validation")`, and the first documents of each
    `folder / entry.path`.
    """

    FILE = "held_out.json"

    sets: tuple[HeldOutSet, ...]
    reports: tuple[StageReport, ...]
    task_pids: dict[str, tuple[int, ...]]

    def of_part(self, part: Literal["validation", "test"]) -> tuple[HeldOutSet, ...]:
        """The sets of one half, a source each, in the order of the study file; without those that got no document."""
        return tuple(entry for entry in self.sets if entry.part == part)
