"""The training loop, on one page. Its dependencies are passed in; all ranks run it in lockstep.

`train` launches steps and settles them in the same order, up to `lag` steps later: what a step's loss and gradient norm decide
must wait until the device has computed them, and a GPU must not wait for that. Guarantee: nothing that lasts holds an
unsettled step. All are settled before a checkpoint, a held-out loss, an export and the end, also by an error; records and
weights are the same at any lag.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cpt_ray.records import RunEvent, RunProgress, StepMetrics
from cpt_ray.train.engine.outcome import LoweredScale
from cpt_ray.train.order.batches import Batch, MicroBatch


class StepOutcome(Protocol):
    """The outcome of a step that was launched."""

    @property
    def lowered(self) -> LoweredScale | None:
        """Not None if the step was dropped and is to be repeated at a lower loss scale; needs no waiting."""

    def read(self) -> tuple[float, float]:
        """Wait for the step; returns its loss and gradient norm, the latter not finite if and only if it was dropped."""


class StepEngine(Protocol):
    """What the loop needs from an engine. Its calls need not wait for the device."""

    def accumulate(self, micro_batches: tuple[MicroBatch, ...], *, loss_tokens: int) -> Any:
        """Forward and backward; returns the global mean loss, for `step`."""

    def step(self, learning_rate: float, loss: Any) -> StepOutcome:
        """Take the optimizer step, or drop the gradients if they or the loss are not finite, or overflow at the loss scale."""


class StepGuards(Protocol):
    """The loop's checks of a step; they may refuse to continue."""

    def see_loss(self, loss: float, *, step: int, tokens_seen: int, batch: Batch) -> RunEvent | None:
        """A loss spike, if one begins with this step."""

    def require_no_stop(self, spike: RunEvent) -> None:
        """Let a spike pass, or refuse."""

    def overflow(self, lowered: LoweredScale, *, step: int, tokens_seen: int) -> RunEvent:
        """Record that a step is repeated at a lower loss scale."""

    def skip(self, loss: float, norm: float, *, step: int, tokens_seen: int, skipped: int, batch: Batch) -> RunEvent:
        """Record a step that was dropped because its loss or gradient is not finite, or refuse."""


class StepMonitor(Protocol):
    """Receives what happens; `Watch` is the real implementation."""

    def enter(self, phase: str, step: int | None = None) -> None:
        """This worker starts reading or saving."""

    def log(self, metrics: StepMetrics) -> None:
        """Receive each step's metrics."""

    def report(self, event: RunEvent) -> None:
        """Receive spikes, overflows and skipped steps."""

    def due(self, before: RunProgress, after: RunProgress) -> bool:
        """Whether `observe` will measure something after the step."""

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
        learning_rate: `tokens_spent` to rate.
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
    lag: int = 0,
) -> RunProgress:
    """Train until `tokens_spent >= course.stop_tokens`.

    Args:
        progress: Where to start.
        course: What to train on.
        engine: Forward, backward, step.
        guards: Refuses, skips or reports a step.
        monitor: Receives what happens.
        checkpoints: When and how to save.
        lag: Steps that may be unsettled while the next one is launched.

    Returns:
        Where it ended: at the budget, or at the step after which a stop was requested.

    Raises:
        TrainingError: If the guards refuse a step. It, and up to `lag` steps after it, may have changed the weights in memory,
            and nothing else.
    """
    flight = _Flight(progress, course, engine, guards, monitor)
    try:
        while flight.ahead.tokens_spent < course.stop_tokens:
            before = flight.ahead
            flight.launch()
            flight.settle(but=lag)
            request = checkpoints.requested() if flight.ahead.tokens_spent < course.stop_tokens else None
            save = bool(request) or checkpoints.due(before, flight.ahead)
            if save or monitor.due(before, flight.ahead):
                flight.settle()
            monitor.observe(before, flight.ahead)
            if save:
                monitor.enter("checkpoint", flight.ahead.step)
                checkpoints.save(flight.ahead)
            if request == "stop":
                break
    except Exception:
        flight.settle()  # what a guard says of an earlier step comes first, as it would without a lag
        raise
    flight.settle()
    return flight.ahead


@dataclass(frozen=True)
class _Launched:
    batch: Batch
    step: int
    rate: float
    outcome: StepOutcome
    started: float
    fetched: float


class _Flight:
    """The steps launched and not yet settled."""

    def __init__(
        self, progress: RunProgress, course: Course, engine: StepEngine, guards: StepGuards, monitor: StepMonitor
    ) -> None:
        self.ahead = progress
        """Where the run is if every unsettled step is taken; its `step`, `position` and `tokens_spent` are certain."""
        self._settled, self._settled_at = progress, -math.inf
        self._course, self._engine, self._guards, self._monitor = course, engine, guards, monitor
        self._launched: deque[_Launched] = deque()

    def launch(self) -> None:
        """Forward, backward and step of the next batch, without waiting for their outcome."""
        step = self.ahead.step + 1
        self._monitor.enter("data", step)
        started = time.perf_counter()
        batch = self._course.batch_at(self.ahead.position)
        fetched = time.perf_counter()
        # The rate at the middle of the step's tokens: a function of tokens alone, whatever the batch size.
        rate = self._course.learning_rate(self.ahead.tokens_spent + batch.loss_tokens / 2)
        outcome = self._step(batch, rate)
        while outcome.lowered is not None:
            self.settle()  # it is told of at the tokens that were seen before it, which are then known
            self._monitor.report(self._guards.overflow(outcome.lowered, step=step, tokens_seen=self.ahead.tokens_seen))
            outcome = self._step(batch, rate)
        self._launched.append(_Launched(batch, step, rate, outcome, started, fetched))
        self.ahead = after(self.ahead, batch, taken=True)

    def _step(self, batch: Batch, rate: float) -> StepOutcome:
        loss = self._engine.accumulate(batch.micro_batches, loss_tokens=batch.loss_tokens)
        return self._engine.step(rate, loss)

    def settle(self, *, but: int = 0) -> None:
        """Wait for all but the last `but` steps, and do what their outcomes decide.

        Raises:
            TrainingError: If the guards refuse a step. Those after it are forgotten.
        """
        while len(self._launched) > but:
            first = self._launched.popleft()
            try:
                self._settle(first)
            except Exception:
                self._launched.clear()
                raise
        self.ahead = self._settled
        for launched in self._launched:
            self.ahead = after(self.ahead, launched.batch, taken=True)

    def _settle(self, launched: _Launched) -> None:
        before, batch = self._settled, launched.batch
        loss, norm = launched.outcome.read()
        at = {"step": launched.step, "tokens_seen": before.tokens_seen}
        spike = self._guards.see_loss(loss, batch=batch, **at)
        if spike is not None:
            self._monitor.report(spike)
            self._guards.require_no_stop(spike)
        taken = math.isfinite(norm)
        if not taken:
            self._monitor.report(self._guards.skip(loss, norm, skipped=before.steps_skipped, batch=batch, **at))
        progress = after(before, batch, taken=taken)
        # A step launched while others were unsettled lasts from the end of the one before it, as a device sees it.
        now = time.perf_counter()
        elapsed = now - max(launched.started, self._settled_at)
        self._settled, self._settled_at = progress, now
        spent = self._course.flops(batch) if taken else 0.0
        self._monitor.log(
            StepMetrics(
                attempt=self._course.attempt,
                step=progress.step,
                tokens_seen=progress.tokens_seen,
                loss=loss,
                learning_rate=launched.rate,
                gradient_norm=norm,
                tokens_per_s=batch.loss_tokens / elapsed if taken else 0.0,
                step_s=elapsed,
                data_wait_s=launched.fetched - launched.started,
                mfu=spent / elapsed / self._course.peak_flops_per_s,
                flops=spent,
                skipped=not taken,
                tokens_skipped=progress.tokens_skipped,
                spike=spike is not None,
                sample_ids=tuple(str(sample) for sample in batch.sample_ids),
            )
        )
