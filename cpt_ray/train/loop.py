"""The training loop, on one page. Everything it touches is handed in; every rank runs it in step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from cpt_ray.records import RunEvent, RunProgress, StepMetrics
from cpt_ray.train.order.batches import Batch, MicroBatch


class StepEngine(Protocol):
    """What the loop needs of an engine."""

    def accumulate(self, micro_batches: tuple[MicroBatch, ...], *, loss_tokens: int) -> float:
        """Forward and backward; returns the global mean loss."""

    def step(self, learning_rate: float, *, take: bool) -> float:
        """Take the optimizer step, or drop the gradients; returns their norm, not finite if and only if they were dropped."""


class StepGuards(Protocol):
    """What the loop asks about a step; either may refuse to go on."""

    def see_loss(self, loss: float, *, step: int, tokens_seen: int, batch: Batch) -> RunEvent | None:
        """A loss spike, if one begins with this step."""

    def require_no_stop(self, spike: RunEvent) -> None:
        """Let a spike pass, or refuse."""

    def skip(self, loss: float, norm: float, *, step: int, tokens_seen: int, skipped: int, batch: Batch) -> RunEvent:
        """Account for a step that was dropped because loss or gradient is not finite, or refuse."""


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
    *,
    stop_tokens: int,
    engine: StepEngine,
    batch_at: Callable[[int], Batch],
    learning_rate: Callable[[float], float],
    flops: Callable[[Batch], float],
    peak_flops_per_s: float,
    guards: StepGuards,
    enter: Callable[[str, int], None],
    log: Callable[[StepMetrics], None],
    report: Callable[[RunEvent], None],
    observe: Callable[[RunProgress, RunProgress], None],
    checkpoint_due: Callable[[RunProgress, RunProgress], bool],
    save: Callable[[RunProgress], None],
    attempt: int,
    requested: Callable[[], str | None] = lambda: None,
) -> RunProgress:
    """Train until `tokens_seen >= stop_tokens`.

    Args:
        progress: Where to begin.
        stop_tokens: Budget, in loss-bearing tokens.
        engine: Forward, backward, step.
        batch_at: Position to batch.
        learning_rate: `tokens_seen` to rate.
        flops: Model FLOPs of a batch over all workers.
        peak_flops_per_s: What MFU is measured against, over all workers.
        guards: What refuses, skips or reports a step.
        enter: (phase, step): this worker begins to read, or to save.
        log: Receives every step's metrics.
        report: Receives spikes and skipped steps.
        observe: (before, after): what is measured once in a while, after a step.
        checkpoint_due: (before, after) to whether a checkpoint is saved after the step.
        save: Commits a checkpoint.
        attempt: Number of this start of the run.
        requested: Asked after each step: `stop` saves and ends, anything else but None only saves.

    Returns:
        Where it ended: at the budget, or at the step after which it was asked to stop.

    Raises:
        TrainingError: If the guards refuse; nothing of that step is in the weights.
    """
    while progress.tokens_seen < stop_tokens:
        place = {"step": progress.step + 1, "tokens_seen": progress.tokens_seen}
        enter("data", place["step"])
        start = time.perf_counter()
        batch = batch_at(progress.position)
        fetched = time.perf_counter()

        loss = engine.accumulate(batch.micro_batches, loss_tokens=batch.loss_tokens)
        spike = guards.see_loss(loss, batch=batch, **place)
        if spike is not None:
            report(spike)
            guards.require_no_stop(spike)

        rate = learning_rate(progress.tokens_seen + batch.loss_tokens / 2)
        norm = engine.step(rate, take=math.isfinite(loss))
        taken = math.isfinite(norm)
        if not taken:
            report(guards.skip(loss, norm, skipped=progress.steps_skipped, batch=batch, **place))

        before, progress = progress, after(progress, batch, taken=taken)
        elapsed = time.perf_counter() - start
        spent = flops(batch) if taken else 0.0
        log(
            StepMetrics(
                attempt=attempt,
                step=progress.step,
                tokens_seen=progress.tokens_seen,
                loss=loss,
                learning_rate=rate,
                gradient_norm=norm,
                tokens_per_s=batch.loss_tokens / elapsed if taken else 0.0,
                step_s=elapsed,
                data_wait_s=fetched - start,
                mfu=spent / elapsed / peak_flops_per_s,
                flops=spent,
                skipped=not taken,
                tokens_skipped=progress.tokens_skipped,
                spike=spike is not None,
                sample_ids=tuple(str(sample) for sample in batch.sample_ids),
            )
        )
        observe(before, progress)
        request = requested() if progress.tokens_seen < stop_tokens else None
        if request or checkpoint_due(before, progress):
            enter("checkpoint", progress.step)
            save(progress)
        if request == "stop":
            break
    return progress
