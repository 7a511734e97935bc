"""The training loop, on one page. Everything it touches is handed in; every rank runs it in step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from cpt_ray.errors import TrainingError
from cpt_ray.records import StepMetrics
from cpt_ray.train.batches import Batch, MicroBatch


class StepEngine(Protocol):
    """What the loop needs of an engine."""

    def accumulate(self, micro_batches: tuple[MicroBatch, ...], *, loss_tokens: int) -> float:
        """Forward and backward; returns the global mean loss."""

    def step(self, learning_rate: float) -> float:
        """Take the optimizer step; returns the gradient norm."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands; all of it is saved with a checkpoint."""

    step: int = 0
    position: int = 0
    """Rows of the sample order consumed."""
    tokens_seen: int = 0
    """Loss-bearing tokens."""
    slots_seen: int = 0
    """Row slots, with padding."""


def train(
    progress: Progress,
    *,
    stop_tokens: int,
    engine: StepEngine,
    batch_at: Callable[[int], Batch],
    learning_rate: Callable[[float], float],
    flops: Callable[[Batch], float],
    peak_flops_per_s: float,
    log: Callable[[StepMetrics], None],
    checkpoint_due: Callable[[Progress, Progress], bool],
    save: Callable[[Progress], None],
    attempt: int,
) -> Progress:
    """Train until `tokens_seen >= stop_tokens`.

    Args:
        progress: Where to begin.
        stop_tokens: Budget, in loss-bearing tokens.
        engine: Forward, backward, step.
        batch_at: Position to batch.
        learning_rate: `tokens_seen` to rate.
        flops: Model FLOPs of a batch over all workers.
        peak_flops_per_s: What MFU is measured against, over all workers.
        log: Receives every step's metrics.
        checkpoint_due: (before, after) to whether a checkpoint is saved after the step.
        save: Commits a checkpoint.
        attempt: Number of this start of the run.

    Returns:
        Where it ended.

    Raises:
        TrainingError: If the loss or the gradient is not finite; nothing of that step is committed.
    """
    while progress.tokens_seen < stop_tokens:
        start = time.perf_counter()
        batch = batch_at(progress.position)
        fetched = time.perf_counter()

        loss = engine.accumulate(batch.micro_batches, loss_tokens=batch.loss_tokens)
        _require_finite("loss", loss, progress, batch)

        rate = learning_rate(progress.tokens_seen + batch.loss_tokens / 2)
        norm = engine.step(rate)
        _require_finite("gradient norm", norm, progress, batch)

        before = progress
        progress = replace(
            progress,
            step=progress.step + 1,
            position=progress.position + len(batch.sample_ids),
            tokens_seen=progress.tokens_seen + batch.loss_tokens,
            slots_seen=progress.slots_seen + batch.slots,
        )
        elapsed = time.perf_counter() - start
        log(
            StepMetrics(
                attempt=attempt,
                step=progress.step,
                tokens_seen=progress.tokens_seen,
                loss=loss,
                learning_rate=rate,
                gradient_norm=norm,
                tokens_per_s=batch.loss_tokens / elapsed,
                step_s=elapsed,
                data_wait_s=fetched - start,
                mfu=flops(batch) / elapsed / peak_flops_per_s,
                flops=flops(batch),
                sample_ids=tuple(str(sample) for sample in batch.sample_ids),
            )
        )
        if checkpoint_due(before, progress):
            save(progress)
    return progress


def _require_finite(name: str, value: float, progress: Progress, batch: Batch) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"step {progress.step + 1} at {progress.tokens_seen} tokens: {name} is {value}; rows "
            f"{', '.join(str(sample) for sample in batch.sample_ids[:8])}",
            fix="lower train.learning_rate or lengthen train.schedule.warmup; the run resumes from its last checkpoint",
        )
