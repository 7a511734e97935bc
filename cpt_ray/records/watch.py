"""The nouns of watching a run: events, memory and held-out loss while it trains, and a worker's heartbeat."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from cpt_ray.records.base import Record, SourceRole

EventKind = Literal["resume", "spike", "skipped_step", "checkpoint", "hang", "warning"]


class RunEvent(Record):
    """Something that happened at a step and that somebody may want to know later."""

    # JSON has no NaN; as text it comes back as what it was.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    kind: EventKind
    attempt: int
    step: int
    tokens_seen: int
    """Before the step; for a checkpoint, what it holds."""
    text: str
    """For people."""
    loss: float | None = None
    usual_loss: float | None = None
    """Median of the recent steps, for a spike."""
    seconds: float | None = None
    """How long it took, for a checkpoint; how long nobody had moved, for a hang."""
    rank: int | None = None
    """The worker that is behind, for a hang; that warned, for a warning."""
    sample_ids: tuple[str, ...] = ()
    """`source:row` of each row of the step, for a spike and a skipped step."""


class Heartbeat(Record):
    """A worker's heartbeat. `moves` counts the phases it has entered: all workers pass through the same ones."""

    rank: int
    world_size: int
    host: str
    pid: int
    step: int
    phase: str
    moves: int
    time: float
    """Unix seconds at which it entered the phase."""


class MemoryPoint(Record):
    """Memory of one phase of a run, in bytes. `host` is resident memory; `device` is what torch has allocated on the GPU.

    A peak is the highest value within the phase; None where the system cannot tell: no GPU, or no peak that can be reset.
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
    """The worker with the highest."""
    device_bytes: int | None
    device_peak_bytes: int | None
    device_peak_bytes_most: int | None


class HeldOutPoint(Record):
    """Held-out loss of the weights as they stood during training: not annealed, never a budget, never reported as a score."""

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
    """Of all sets of this point together."""
