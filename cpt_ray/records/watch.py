"""Records of watching: events, memory and held-out loss of a run, heartbeats, what commands note, and a study's status."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from cpt_ray.records.base import Record, SourceRole

EventKind = Literal["resume", "spike", "skipped_step", "overflow", "checkpoint", "compile", "hang", "warning"]
Outcome = Literal["running", "done", "failed", "interrupted"]
StudyState = Literal["never started", "running", "died", "failed", "interrupted", "stopped", "finished"]


class RunEvent(Record):
    """Something that happened at a step and may be of interest later."""

    # JSON has no NaN; as a string it round-trips.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    kind: EventKind
    attempt: int
    step: int
    tokens_seen: int
    """Before the step; for a checkpoint, the tokens in it."""
    text: str
    """Human-readable."""
    loss: float | None = None
    usual_loss: float | None = None
    """Median of the recent steps, for a spike."""
    seconds: float | None = None
    """How long it took, for a checkpoint or compiling; how long no worker had made progress, for a hang."""
    rank: int | None = None
    """The worker that lags, for a hang; the one that warned, for a warning."""
    sample_ids: tuple[str, ...] = ()
    """`source:row` of each row of the step, for a spike or a skipped step."""


class Heartbeat(Record):
    """A worker's heartbeat. `moves` counts the phases it has entered; all workers go through the same phases."""

    rank: int
    world_size: int
    host: str
    pid: int
    step: int
    phase: str
    moves: int
    time: float
    """When it entered the phase, in Unix seconds."""


class MemoryPoint(Record):
    """Memory of one phase of a run, in bytes. `host` is resident memory; `device` is what torch has allocated on the GPU.

    A peak is the highest value within the phase; None if it cannot be measured: no GPU, or no peak that can be reset.
    """

    attempt: int
    step: int
    tokens_seen: int
    phase: str
    host_bytes: int
    """Rank 0, at the end of the phase."""
    host_peak_bytes: int | None
    """Rank 0."""
    host_peak_bytes_most: int | None
    """The highest of any worker."""
    device_bytes: int | None
    device_peak_bytes: int | None
    device_peak_bytes_most: int | None


class HeldOutPoint(Record):
    """Held-out loss of the weights at a point during training: not annealed, never a budget, never reported as a score."""

    attempt: int
    step: int
    tokens_seen: int
    source: str
    role: SourceRole
    part: str
    documents: int
    scored_tokens: int
    scored_bytes: int
    nats_per_token: float
    bits_per_byte: float
    seconds: float
    """For all sets of this point together."""


class PlannedArtifact(Record):
    """An artifact that a study needs, built or not."""

    stage: str
    verb: str
    """The verb that builds it."""
    name: str
    """In the study: in a grid with the cell's suffix."""
    folder: str
    """Below the root."""
    start_tokens: int | None = None
    """Of a run: `tokens_spent` at its start, counted from the base."""
    stop_tokens: int | None = None
    """Of a run: it ends at the first step at or past these."""


class PlannedStudy(Record):
    """The artifacts of the cells that a command was given, inputs before dependents; written when it begins."""

    FILE = "planned.json"

    study: str
    artifacts: tuple[PlannedArtifact, ...]


class KnownInputs(Record):
    """What the last command that built or read the study found of its files outside the root: sources, bases, exams.

    With it the study's artifacts are found where none of these files can be read.
    """

    FILE = "inputs.json"

    found: dict[str, str | None]
    """What was found, by a hash of what was looked for; None where it is only known of a finished artifact."""


class CommandRecord(Record):
    """The newest command that took a study's lease, what it does, and how it ended. Times are Unix seconds of its host."""

    FILE = "command.json"

    attempt: int
    command: str
    """As a shell reads it, without secrets."""
    folder: str
    """Where it was typed."""
    host: str
    pid: int
    started: float
    verb: str = ""
    """The verb at work: of `run` the one that it has reached."""
    doing: str = ""
    """The last line of progress."""
    doing_since: float = 0.0
    """When that was said."""
    ended: float | None = None
    outcome: Outcome = "running"
    """Still `running` if the process was killed."""
    error: str = ""
    fix: str = ""


class DriverStatus(Record):
    """The driver of a study, as its lease tells."""

    attempt: int
    host: str
    pid: int
    alive: bool
    released: bool
    heartbeat_s: float
    """Seconds since it last renewed its lease."""


class WorkerStatus(Record):
    """A training worker, as its last heartbeat tells."""

    rank: int
    host: str
    pid: int
    phase: str
    step: int
    moved_s: float
    """Seconds since it entered the phase."""


class RunStatus(Record):
    """A training run."""

    name: str
    state: Literal["waiting", "training", "done"]
    """`training` if it has begun and is not done, whether or not the driver lives."""
    tokens: int = 0
    """Spent, counted from the base."""
    start_tokens: int | None = None
    stop_tokens: int | None = None
    share: float | None = None
    """Of its own tokens."""
    step: int = 0
    tokens_per_s: float | None = None
    """Over the last ten steps."""
    eta_s: float | None = None
    losses: tuple[float, ...] = ()
    """The last ones, in nats per token."""
    attempts: int = 0
    workers: tuple[WorkerStatus, ...] = ()
    events: tuple[str, ...] = ()
    """The last ones, but for checkpoints."""


class VerbStatus(Record):
    """How much of a verb's work is there."""

    verb: str
    done: int
    artifacts: int


class StudyStatus(Record):
    """What is known of a study from its root alone."""

    study: str
    root: str
    state: StudyState
    driver: DriverStatus | None = None
    command: CommandRecord | None = None
    verbs: tuple[VerbStatus, ...] = ()
    """Empty for a study last worked on before commands wrote what they plan."""
    runs: tuple[RunStatus, ...] = ()
    eta_s: float | None = None
    """Of all training that is left, at the present rate."""
    last_words: str = ""
    """The last line of the driver's log, if it died."""
    report: str | None = None
    next: tuple[str, ...] = ()
    """What to type."""
