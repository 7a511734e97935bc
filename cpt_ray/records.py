"""The nouns: what the rooms hand to one another and what is written beside every artifact.

All records are frozen and serialise to JSON. A record says where its numbers come from; no room passes a bare dict on.
Units stand in the names: `_tokens`, `_bytes`, `_s`, `_nats`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from cpt_ray.errors import DataError

SourceRole = Literal["domain", "general"]
RunKind = Literal["base", "trunk", "cooldown", "independent"]


class Record(BaseModel):
    """A frozen fact that serialises to JSON and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> str:
        """Serialise with a stable key order."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read back what `to_json` wrote."""
        return cls.model_validate_json(text)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the record stored at a local path."""
        return cls.from_json(Path(path).read_bytes())


@dataclass(frozen=True, slots=True)
class Document:
    """One document on its way through `data`.

    `id` is the source's own id or a content hash; `language` is an ISO code or None where nobody said.
    """

    id: str
    text: str
    source: str
    language: str | None = None
    licence: str | None = None


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


class FileEntry(Record):
    """A file of an artifact: path relative to the artifact's folder, size and content hash."""

    path: str
    size_bytes: int
    sha256: str


class Artifact(Record):
    """The last file written into an artifact's folder: it exists, so the artifact is whole.

    `inputs` maps the name of each input to its fingerprint: the chain from raw file to score.
    """

    stage: str
    name: str
    fingerprint: str
    inputs: dict[str, str]
    settings: dict[str, object]
    files: tuple[FileEntry, ...]
    wall_s: float
    created: str
    versions: dict[str, str]


class UnitReport(Record):
    """What one task did to one unit: its reports, its files, and the process that did it."""

    unit: str
    stage: str
    pid: int
    node: str
    files: tuple[FileEntry, ...]
    reports: tuple[StageReport, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    samples: tuple[dict[str, str], ...] = ()
    """A few dropped documents: reason, id and the beginning of the text."""


class ShardEntry(Record):
    """One shard: the packed rows of one unit.

    `tokens` counts tokenizer tokens and separators; `slots = rows * sequence_length = tokens + padding`;
    `loss_tokens = tokens - segments`, because the first token of a segment has no label.
    """

    path: str
    index_path: str
    source: str
    unit: str
    sha256: str
    size_bytes: int
    rows: int
    documents: int
    cut_documents: int
    tokenizer_tokens: int
    separator_tokens: int
    tokens: int
    segments: int
    padding: int
    loss_tokens: int


class ShardManifest(Record):
    """All shards of a study and one tokenizer, in canonical order."""

    format_version: int
    sequence_length: int
    vocabulary_size: int
    token_dtype: str
    separator_id: int
    tokenizer_sha256: str
    shards: tuple[ShardEntry, ...]
    reports: tuple[StageReport, ...]
    task_pids: dict[str, tuple[int, ...]]
    """Stage name to the distinct processes that ran its tasks."""

    def of_source(self, source: str) -> tuple[ShardEntry, ...]:
        """The shards of one source, in canonical order."""
        return tuple(entry for entry in self.shards if entry.source == source)

    def rows(self, source: str) -> int:
        """Packed rows of one source."""
        return sum(entry.rows for entry in self.of_source(source))

    def loss_tokens(self, source: str) -> int:
        """Loss-bearing tokens of one source: one epoch of it."""
        return sum(entry.loss_tokens for entry in self.of_source(source))


class HeldOutSet(Record):
    """A held-out set: documents that no arm trains on."""

    source: str
    role: SourceRole
    part: Literal["validation", "test"]
    path: str
    documents: int
    bytes: int


class DocumentsRecord(Record):
    """Clean documents with their duplicate verdicts, per unit, in canonical order."""

    units: tuple[str, ...]
    """Unit names in canonical order: `source-NNNNN`."""
    reports: tuple[StageReport, ...]
    task_pids: dict[str, tuple[int, ...]]
    near_duplicate_threshold: float | None
    samples: tuple[dict[str, str], ...] = ()


class HeldOutRecord(Record):
    """The held-out sets of a study, and what drawing them took from the training text."""

    sets: tuple[HeldOutSet, ...]
    reports: tuple[StageReport, ...]
    task_pids: dict[str, tuple[int, ...]]


class CheckpointManifest(Record):
    """Written last into a checkpoint's folder: without it the checkpoint does not exist."""

    run: str
    attempt: int
    step: int
    position: int
    tokens_seen: int
    slots_seen: int
    world_size: int
    zero_stage: int
    data_fingerprint: str
    files: tuple[FileEntry, ...]
    created: str


class RunSpec(Record):
    """A training run as planned; `train/runs.py` derives all of a study's.

    Learning rate and stop are functions of `tokens_seen`, which counts from the base: a branch continues its trunk's count.
    """

    name: str
    kind: RunKind
    model: str
    arm: str
    seed: int
    budget_tokens: int | None
    """None for a trunk, which is never a budget."""
    parent: str | None
    """The run whose checkpoint this one starts from."""
    start_tokens: int
    """Nominal `tokens_seen` at the start: 0, or the parent's branch point."""
    stop_tokens: int
    """The run stops at the first step with `tokens_seen >= stop_tokens`."""
    cooldown_start_tokens: int | None
    """Where the cooldown begins; None for a trunk."""
    branch_tokens: tuple[int, ...] = ()
    """Checkpoints that branches start from: the first step at or past each of these."""


class RunAttempt(Record):
    """One start of a run's workers, written when they are ready to train."""

    attempt: int
    first_step: int
    """The step that it goes on from: 0 at the start of the base, above 0 after a resume or on a branch."""
    resumed: bool
    """Whether it went on from a checkpoint of this very run."""
    world_size: int
    worker_pids: tuple[int, ...]
    kernel: str
    peak_flops_per_s: float
    self_test: SelfTest | None


class SelfTest(Record):
    """Proof that packed documents do not see each other, on the model and kernels in use.

    `masked_difference` is the largest change of a document's token log-probabilities, in nats, when it is packed behind
    another one; `unmasked_difference` is the same with the mask off, the control that must fail.
    """

    kernel: str
    dtype: str
    masked_difference: float
    unmasked_difference: float
    allowed_difference: float
    passed: bool


class RunRecord(Record):
    """A finished training run, or the untrained base (kind `base`)."""

    run: str
    """Unique within the study: model-arm-budget-seed for a budget, model-arm-trunk-seed for a trunk."""
    kind: RunKind
    model: str
    arm: str | None
    seed: int | None
    budget_tokens: int | None
    parent: str | None
    """The run whose checkpoint this one started from."""
    start_tokens: int
    tokens_seen: int
    slots_seen: int
    position: int
    """Rows of the sample order consumed since the base."""
    steps: int
    sequence_length: int
    world_sizes: tuple[int, ...]
    worker_pids: tuple[int, ...]
    attempts: int
    first_steps: tuple[int, ...]
    """The step at which each attempt began; above 0 after a resume."""
    flops: float
    mean_tokens_per_s: float
    mfu: float | None
    peak_flops_per_s: float | None
    wall_s: float
    self_test: SelfTest | None
    metrics_path: str | None
    """JSON lines, one per step, relative to the run's artifact folder."""
    export_path: str | None
    """HF safetensors folder, absolute; None for a trunk, which is never a budget."""
    annealed: bool
    """Whether the learning rate has decayed: only such a run may be called a budget."""


class StepMetrics(Record):
    """One line of a run's metrics file. The x axis is `tokens_seen`."""

    attempt: int
    step: int
    tokens_seen: int
    loss: float
    """Mean over the global batch's loss-bearing tokens, nats per token."""
    learning_rate: float
    gradient_norm: float
    tokens_per_s: float
    step_s: float
    data_wait_s: float
    mfu: float | None
    flops: float = 0.0
    """Model FLOPs of the step, over all workers."""
    sample_ids: tuple[str, ...] = ()
    """`source:row` of each row of the global batch, in order."""


class Interval(Record):
    """A percentile interval; `kind` says what was resampled."""

    low: float
    high: float
    confidence: float
    kind: str


class HeldOutScore(Record):
    """Scores of one model on one held-out set; per-document sums lie in `documents_path`."""

    source: str
    role: SourceRole
    part: str
    documents: int
    scored_tokens: int
    scored_bytes: int
    nats: float
    bits_per_byte: float
    bits_per_byte_interval: Interval
    perplexity: float
    perplexity_interval: Interval
    documents_path: str
    """JSON lines {id, nats, tokens, bytes}, relative to the evaluation's artifact folder."""


class ExamScore(Record):
    """Scores of one model on one lm-eval task; per-item results lie in `items_path`."""

    task: str
    label: str
    items: int
    accuracy: float
    accuracy_stderr: float
    accuracy_norm: float | None
    accuracy_norm_stderr: float | None
    chance: float
    items_path: str


class EvalRecord(Record):
    """All scores of one run's export."""

    run: str
    model: str
    arm: str | None
    seed: int | None
    budget_tokens: int | None
    tokens_seen: int
    held_out: tuple[HeldOutScore, ...]
    exams: tuple[ExamScore, ...]
    task_pid: int
    wall_s: float


class Delta(Record):
    """A paired difference, subject minus reference, of one measure on one set.

    `difference` is in the measure's own unit (bits per byte, or accuracy in points of 100); `relative_percent` is against
    the reference. `better` is None where the interval holds 0.
    """

    measure: Literal["bits_per_byte", "accuracy_points", "accuracy_norm_points"]
    set_name: str
    role: Literal["domain", "general", "exam"]
    subject: str
    reference: str
    subject_value: float
    reference_value: float
    difference: float
    interval: Interval
    relative_percent: float
    items: int
    better: bool | None


class Point(Record):
    """One point of a token-scaling curve."""

    run: str
    model: str
    arm: str | None
    seed: int | None
    tokens_seen: int
    set_name: str
    role: SourceRole
    bits_per_byte: float
    interval: Interval
    annealed: bool


class Comparison(Record):
    """What the study found: the deltas, the curves, the sentences that say it, and what they rest on."""

    points: tuple[Point, ...]
    deltas: tuple[Delta, ...]
    verdict: str
    """One sentence: what the tokens bought, what they cost, whether to go on."""
    notes: tuple[str, ...]
    """Caveats that belong beside the verdict, one sentence each."""
    tokens_seen: int
    tokens_paid: int
