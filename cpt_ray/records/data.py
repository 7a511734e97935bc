"""Records of preparation: documents and what became of them, units, held-out sets, the profile of a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field

from cpt_ray.errors import DataError
from cpt_ray.records.base import SHA256, Columns, FileEntry, Record, SourceRole


class DocumentKey(NamedTuple):
    """What a document is called: everything joins on `identity`; `id` is a label, shown next to it."""

    identity: str
    """`SOURCE/TASK/RECORD`: where the document was read, and so unique (`cpt_ray/data/identity.py`)."""
    id: str
    """The source's own id, which may repeat, or a hash of the content."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document on its way through `data`.

    `id` is the source's id or a content hash, and may repeat; `identity` never does, and is empty until stage `read` has placed
    the document. The other fields are None if unknown: `language` is an ISO code, `origin` where the text comes from, `date` as
    written in the source, `license` the document's (if None, the source's license applies), `label` what classifiers choose by.
    """

    id: str
    text: str
    source: str
    language: str | None = None
    license: str | None = None
    origin: str | None = None
    date: str | None = None
    label: str | None = None
    identity: str = ""

    @property
    def key(self) -> DocumentKey:
        """Identity and id."""
        return DocumentKey(self.identity, self.id)


@dataclass(frozen=True, slots=True)
class Dropped:
    """The verdict of a stage that drops a document; drops are counted by `reason`."""

    reason: str


class Amount(Record):
    """Number of documents, and the UTF-8 bytes of their text."""

    documents: int = 0
    bytes: int = 0

    @classmethod
    def total(cls, amounts: Iterable[Amount]) -> Self:
        """The sum of amounts."""
        documents = size = 0
        for amount in amounts:
            documents, size = documents + amount.documents, size + amount.bytes
        return cls(documents=documents, bytes=size)


class StageReport(Record):
    """What one stage did to one source: in = kept + dropped by reason, in documents and in bytes.

    `edited_bytes` is what a stage that rewrites text removed from (negative: added to) the documents that it kept.
    """

    stage: str
    source: str
    input: Amount
    kept: Amount
    dropped: dict[str, Amount] = Field(default_factory=dict)
    edited_bytes: int = 0

    @classmethod
    def total(cls, reports: Sequence[StageReport]) -> Self:
        """The sum of reports of the same stage and source."""
        first = reports[0]
        for report in reports:
            if (report.stage, report.source) != (first.stage, first.source):
                raise ValueError(f"cannot add reports of {first.stage}/{first.source} and {report.stage}/{report.source}")
        reasons = sorted({reason for report in reports for reason in report.dropped})
        return cls(
            stage=first.stage,
            source=first.source,
            input=Amount.total([report.input for report in reports]),
            kept=Amount.total([report.kept for report in reports]),
            dropped={r: Amount.total([report.dropped[r] for report in reports if r in report.dropped]) for r in reasons},
            edited_bytes=sum(report.edited_bytes for report in reports),
        )

    def check(self) -> Self:
        """Return self if nothing was lost.

        Raises:
            DataError: If documents or bytes in differ from kept + dropped.
        """
        lost = Amount.total(self.dropped.values())
        if self.input.documents != self.kept.documents + lost.documents:
            raise DataError(
                f"stage {self.stage} of source {self.source} lost documents: {self.input.documents} in, "
                f"{self.kept.documents} kept, {lost.documents} dropped",
                fix="report this: it is a bug in the stage, not a problem with the data",
            )
        if self.input.bytes != self.kept.bytes + lost.bytes + self.edited_bytes:
            raise DataError(
                f"stage {self.stage} of source {self.source} lost bytes: {self.input.bytes} in, {self.kept.bytes} kept, "
                f"{lost.bytes} dropped, {self.edited_bytes} edited",
                fix="report this: it is a bug in the stage, not a problem with the data",
            )
        return self


def sum_reports(reports: Iterable[StageReport]) -> list[StageReport]:
    """Add up reports of the same stage and source, keeping the order of first appearance."""
    found: dict[tuple[str, str], list[StageReport]] = {}
    for report in reports:
        found.setdefault((report.stage, report.source), []).append(report)
    return [StageReport.total(same) for same in found.values()]


class ShownDocument(Record):
    """A member of a large duplicate component, to be quoted."""

    reference: int
    """Unit and row of the document, as numbered by `dedup`."""
    identity: str
    id: str
    text: str
    """The beginning of the text."""


class RepeatedIds(Record):
    """Ids of a source that more than one of its documents has, and how many documents have one of them."""

    ids: int = 0
    documents: int = 0

    def __add__(self, other: RepeatedIds) -> RepeatedIds:
        return RepeatedIds(ids=self.ids + other.ids, documents=self.documents + other.documents)


class UnitFacts(Record):
    """What a task reports about a unit besides its files; each stage fills in the fields that apply."""

    reports: tuple[StageReport, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    """Stage-specific counts by name, such as `pairs` or `loss_tokens`."""
    samples: tuple[dict[str, str], ...] = ()
    """A few dropped documents: reason, identity, id and the beginning of the text."""
    encodings: dict[str, int] = Field(default_factory=dict)
    """Text files by encoding; set by `read`."""
    fields: dict[str, int] = Field(default_factory=dict)
    """Documents that have an optional field, by its name; set by `read`."""
    languages: dict[str, int] = Field(default_factory=dict)
    """Kept documents by language; set by `clean`."""
    redacted: dict[str, int] = Field(default_factory=dict)
    """What placeholders replaced, by kind; set by `clean`."""
    invisible: dict[str, int] = Field(default_factory=dict)
    """Invisible characters removed, by kind; set by `clean`."""
    component_sizes: dict[str, int] = Field(default_factory=dict)
    """Duplicate components by size class; set by `components`."""
    repeated_ids: dict[str, RepeatedIds] = Field(default_factory=dict)
    """Ids that repeat within a source, by source; set by `duplicate_pairs`."""
    shown: tuple[ShownDocument, ...] = ()


class UnitReport(UnitFacts):
    """What one task did to one unit: output files, facts, and the process that ran it."""

    unit: str
    stage: str
    task_checksum: int
    """Checksum of the task and its settings; a report with another checksum is not from this work."""
    pid: int
    node: str
    outputs: dict[str, tuple[FileEntry, ...]]
    """The unit's files by kind, such as `clean`, `keys` and `sketches`."""

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All output files."""
        return tuple(entry for entries in self.outputs.values() for entry in entries)

    def path(self, name: str) -> str:
        """Path of the only file of that name, relative to the artifact's folder."""
        (entry,) = self.outputs[name]
        return entry.path


class UnitFile(FileEntry):
    """A file of a unit, in the list of a stage's files."""

    unit: str
    kind: str
    """As in `UnitReport.outputs`."""


class UnitFileTable(Columns[UnitFile]):
    """The files that the units of a stage wrote."""

    ENTRY = UnitFile
    SCHEMA = pa.schema(
        [
            ("path", pa.string()),
            ("size_bytes", pa.int64()),
            ("sha256", SHA256),
            ("unit", pa.string()),
            ("kind", pa.dictionary(pa.int32(), pa.string())),
        ]
    )

    @classmethod
    def of_units(cls, units: Sequence[str], kinds: Sequence[str], entries: Sequence[FileEntry]) -> pa.RecordBatch:
        """The columns of some files, from the unit and the kind of each."""
        hashes = [bytes.fromhex(entry.sha256) for entry in entries]
        columns = [[entry.path for entry in entries], [entry.size_bytes for entry in entries], hashes, units, kinds]
        pairs = zip(columns, cls.SCHEMA.types, strict=True)
        return pa.RecordBatch.from_arrays([pa.array(values, type=kind) for values, kind in pairs], schema=cls.SCHEMA)

    def entries(self) -> pa.RecordBatch:
        """Path, size and hash alone, as columns of a `FileTable`."""
        return self._columns.select(["path", "size_bytes", "sha256"])

    def of_kind(self, kind: str) -> UnitFileTable:
        """The files of one kind, in their order."""
        column = self.arrow("kind")
        names = column.dictionary.to_pylist()
        codes = column.indices.to_numpy()
        places = np.flatnonzero(codes == names.index(kind)) if kind in names else np.empty(0, dtype=np.int64)
        return self.take(places)


class HeldOutSet(Record):
    """One half of a source's held-out documents: no arm trains on them, and no duplicate component spans both halves.

    `path` names JSON lines {identity, id, text} in the artifact's folder; any leading part of the file is a fair sample of the
    set.
    """

    source: str
    role: SourceRole
    part: Literal["validation", "test"]
    """`validation` may be monitored and selected on during training; `test` is reported, and never used for selection."""
    path: str
    documents: int
    bytes: int

    @property
    def is_scored(self) -> bool:
        """Whether a finished model is scored on it: of validation text only on the domain's, by which budgets are selected.

        A single document gives no score; a test set always has two.
        """
        return self.part == "test" or (self.role == "domain" and self.documents > 1)


class LargeComponent(Record):
    """One of the largest duplicate components: names and text beginnings of some members, the kept document first."""

    documents: int
    members: tuple[DocumentKey, ...]
    texts: tuple[str, ...]


class DuplicateComponents(Record):
    """What duplicate removal found."""

    pairs_compared: int
    """Documents that share a band, compared by signature; a pair counts once per partition in which it shares a band."""
    documents_left: int
    """Documents in crowded buckets that were similar to none of the representatives they were compared with."""
    sizes: dict[str, int]
    """Components by number of documents, in doubling classes: `2`, `3-4`, `5-8`, ..."""
    largest: tuple[LargeComponent, ...]


class Histogram(Record):
    """Documents of one source by size or by repetition.

    `edges` has one more number than `counts`; the first and last bins also hold what is beyond them.
    """

    source: str
    measure: Literal["bytes", "repetition"]
    when: Literal["read", "kept"]
    """As read, or as kept after cleaning and duplicate removal."""
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Term(Record):
    """A word or phrase that sets the domain's text apart."""

    text: str
    domain: int
    """Its count in the sample of domain text."""
    background: int
    z: float
    """Log-odds ratio with an informative Dirichlet prior, over its standard deviation (Monroe et al. 2008)."""


class CorpusProfile(Record):
    """Histograms of every source, and what sets domain text apart from general text."""

    histograms: tuple[Histogram, ...] = ()
    terms: tuple[Term, ...] = ()
    domain_words: int = 0
    """Words in the sample in which terms were counted."""
    background_words: int = 0


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
    """Documents that cleaning kept, by source and language; `unknown` if neither the source nor a model supplied one."""
    redacted: dict[str, dict[str, int]]
    """What placeholders replaced, by source and kind."""
    invisible: dict[str, dict[str, int]]
    """Invisible characters removed from the documents that cleaning kept, by source and kind."""
    repeated_ids: dict[str, RepeatedIds]
    """Ids that the source gave to more than one document, by source; sources without are left out."""
    encodings: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Text files by source and encoding."""
    profile: CorpusProfile
    samples: tuple[dict[str, str], ...] = ()

    def kept_documents(self) -> Counter[str]:
        """Documents of each source that are left."""
        counts = Counter[str]()
        for report in self.reports:
            if report.stage == "near_duplicates":
                counts[report.source] += report.kept.documents
        return counts


class HeldOutRecord(Record):
    """The held-out sets of a study, and what drawing them removed from the training text.

    To monitor a run, read `HeldOutRecord.of(folder).of_part("validation")`, and the first documents of each
    `folder / entry.path`.
    """

    FILE = "held_out.json"

    sets: tuple[HeldOutSet, ...]
    reports: tuple[StageReport, ...]
    task_pids: dict[str, tuple[int, ...]]
    shares: dict[str, float]
    """Share of the components of each source that is held out: `data.split.held_out_share`."""
    floor: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Components added to the test half of sources whose share gave fewer than two documents, by source."""

    @property
    def floors(self) -> tuple[str, ...]:
        """The components of `floor`, of all sources: one that two sources share is held out in both."""
        return tuple(name for names in self.floor.values() for name in names)

    def of_part(self, part: Literal["validation", "test"]) -> tuple[HeldOutSet, ...]:
        """The sets of one half, one per source, in the order of the study file; sets without documents are left out."""
        return tuple(entry for entry in self.sets if entry.part == part)
