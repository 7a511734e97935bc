"""The training loop, on one page. Its dependencies are passed in; all ranks run it in lockstep.

`train` repeats `_step`, and saves when a checkpoint is due or requested.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cpt_ray.records import RunEvent, RunProgress, StepMetrics
from cpt_ray.train.order.batches import Batch, MicroBatch


class StepEngine(Protocol):
    """What the loop needs from an engine."""

    def accumulate(self, micro_batches: tuple[MicroBatch, ...], *, loss_tokens: int) -> float:
        """Forward and backward; returns the global mean loss."""

    def step(self, learning_rate: float, *, take: bool) -> float:
        """Take the optimizer step, or drop the gradients; returns their norm, not finite if and only if they were dropped."""


class StepGuards(Protocol):
    """The loop's checks of a step; they may refuse to continue."""

    def see_loss(self, loss: float, *, step: int, tokens_seen: int, batch: Batch) -> RunEvent | None:
        """A loss spike, if one begins with this step."""

    def require_no_stop(self, spike: RunEvent) -> None:
        """Let a spike pass, or refuse."""

    def skip(self, loss: float, norm: float, *, step: int, tokens_seen: int, skipped: int, batch: Batch) -> RunEvent:
        """Record a step that was dropped because its loss or gradient is not finite, or refuse."""


class StepMonitor(Protocol):
    """Receives what happens; `Watch` is the real implementation."""

    def enter(self, phase: str, step: int | None = None) -> None:
        """This worker starts reading or saving."""

    def log(self, metrics: StepMetrics) -> None:
        """Receive each step's metrics."""

    def report(self, event: RunEvent) -> None:
        """Receive spikes and skipped steps."""

    def observe(self, before: RunProgress, after: RunProgress) -> None:
        """Take the periodic measurements that are due after a step."""


class Checkpoints(Protocol):
    """When and how the run is saved; `Saver` is the real implementation."""

    def requested(self) -> str | None:
        """Called after each step: `stop` saves and ends, any other value except None only saves."""

    def due(self, before: RunProgress, after: RunProgress) -> bool:
        """Whether a checkpoint is due after the step."""

    def save(self, progress: RunProgress) -> None:
        """Commit a checkpoint."""


@dataclass(frozen=True)
class Course:
    """What a run trains on, and at which rate: all that the loop knows about a run.

    Attributes:
        stop_tokens: Budget, in loss-bearing tokens.
        batch_at: Position to batch.
        learning_rate: `tokens_seen` to rate.
        flops: Model FLOPs of a batch over all workers.
        peak_flops_per_s: The peak that MFU is measured against, over all workers.
        attempt: Number of this start of the run.
    """

    stop_tokens: int
    batch_at: Callable[[int], Batch]
    learning_rate: Callable[[float], float]
    flops: Callable[[Batch], float]
    peak_flops_per_s: float
    attempt: int


def after(progress: RunProgress, batch: Batch, *, taken: bool) -> RunProgress:
    """Where a run is after a batch whose step was taken or skipped."""
    return RunProgress(
        step=progress.step + 1,
        position=progress.position + len(batch.sample_ids),
        tokens_seen=progress.tokens_seen + (batch.loss_tokens if taken else 0),
        slots_seen=progress.slots_seen + (batch.slots if taken else 0),
        steps_skipped=progress.steps_skipped + (not taken),
        tokens_skipped=progress.tokens_skipped + (0 if taken else batch.loss_tokens),
    )


def train(
    progress: RunProgress,
    course: Course,
    *,
    engine: StepEngine,
    guards: StepGuards,
    monitor: StepMonitor,
    checkpoints: Checkpoints,
) -> RunProgress:
    """Train until `tokens_seen >= course.stop_tokens`.

    Args:
        progress: Where to start.
        course: What to train on.
        engine: Forward, backward, step.
        guards: Refuses, skips or reports a step.
        monitor: Receives what happens.
        checkpoints: When and how to save.

    Returns:
        Where it ended: at the budget, or at the step after which a stop was requested.

    Raises:
        TrainingError: If the guards refuse; nothing of that step is in the weights.
    """
    while progress.tokens_seen < course.stop_tokens:
        before = progress
        progress = _step(before, course, engine, guards, monitor)
        monitor.observe(before, progress)
        request = checkpoints.requested() if progress.tokens_seen < course.stop_tokens else None
        if request or checkpoints.due(before, progress):
            monitor.enter("checkpoint", progress.step)
            checkpoints.save(progress)
        if request == "stop":
            break
    return progress


def _step(before: RunProgress, course: Course, engine: StepEngine, guards: StepGuards, monitor: StepMonitor) -> RunProgress:
    at = {"step": before.step + 1, "tokens_seen": before.tokens_seen}
    monitor.enter("data", at["step"])
    start = time.perf_counter()
    batch = course.batch_at(before.position)
    fetched = time.perf_counter()

    loss = engine.accumulate(batch.micro_batches, loss_tokens=batch.loss_tokens)
    spike = guards.see_loss(loss, batch=batch, **at)
    if spike is not None:
        monitor.report(spike)
        guards.require_no_stop(spike)

    # The rate at the middle of the step's tokens: a function of tokens alone, whatever the batch size.
    rate = course.learning_rate(before.tokens_seen + batch.loss_tokens / 2)
    norm = engine.step(rate, take=math.isfinite(loss))
    taken = math.isfinite(norm)
    if not taken:
        monitor.report(guards.skip(loss, norm, skipped=before.steps_skipped, batch=batch, **at))

    progress = after(before, batch, taken=taken)
    elapsed = time.perf_counter() - start
    spent = course.flops(batch) if taken else 0.0
    monitor.log(
        StepMetrics(
            attempt=course.attempt,
            step=progress.step,
            tokens_seen=progress.tokens_seen,
            loss=loss,
            learning_rate=rate,
            gradient_norm=norm,
            tokens_per_s=batch.loss_tokens / elapsed if taken else 0.0,
            step_s=elapsed,
            data_wait_s=fetched - start,
            mfu=spent / elapsed / course.peak_flops_per_s,
            flops=spent,
            skipped=not taken,
            tokens_skipped=progress.tokens_skipped,
            spike=spike is not None,
            sample_ids=tuple(str(sample) for sample in batch.sample_ids),
        )
    )
    return progress
