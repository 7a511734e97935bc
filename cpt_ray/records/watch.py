"""Records of monitoring a run: events, memory and held-out loss during training, and a worker's heartbeat."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from cpt_ray.records.base import Record, SourceRole

EventKind = Literal["resume", "spike", "skipped_step", "checkpoint", "compile", "hang", "warning"]


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
