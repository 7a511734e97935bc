"""What a worker measures and reports while it trains: its heartbeat, steps, events, memory, held-out loss.

Runs alongside the loop and is notified of every phase. Out: JSON lines under the run's folder, written by rank 0, one file per
attempt:

    metrics/     StepMetrics, one per step         memory/      MemoryPoint, per measured phase
    events/      spikes, skips, checkpoints        held_out/    HeldOutPoint, per set and interval
    heartbeats/  one file per worker, overwritten

Guarantee: nothing here changes what is computed; collective calls depend on `tokens_spent` alone, so all ranks make them
together.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from cpt_ray.config.sections.watch import WatchConfig
from cpt_ray.edges.storage import remove_tree
from cpt_ray.records import HeldOutPoint, Record, RunEvent, RunProgress, StepMetrics
from cpt_ray.train.monitor import heartbeat, held_out, memory
from cpt_ray.train.monitor.metrics import EVENTS, HELD_OUT, MEMORY, METRICS, LineWriter

MEMORY_POINTS = 10
"""Measured steps per run, if the study sets no interval."""
_STREAMS = (METRICS, EVENTS, MEMORY, HELD_OUT)

MeasureHeldOut = Callable[[RunProgress], list[HeldOutPoint]]


@dataclass(frozen=True)
class Intervals:
    """Tokens between measurements; None is never."""

    memory: int
    held_out: int | None


def intervals(config: WatchConfig, run_tokens: int, loss: held_out.HeldOutLoss) -> Intervals:
    """How often a run of `run_tokens` is measured."""
    return Intervals(
        memory=config.memory_every or max(1, run_tokens // MEMORY_POINTS),
        held_out=held_out.interval(loss.sets, asked=config.held_out_every, run_tokens=run_tokens),
    )


class Watch:
    """Measures and reports during one start of a run; a worker creates it before it loads the model.

    Args:
        run_folder: The run's folder.
        device: Where this worker computes.
        tell: Told each heartbeat.
    """

    def __init__(self, run_folder: Path, device: torch.device, tell: heartbeat.TellDriver | None = None) -> None:
        self._folder, self._rank = run_folder, dist.get_rank()
        if self._rank == 0:
            remove_tree(run_folder / heartbeat.FOLDER)  # heartbeats of an earlier start, perhaps with more workers
        dist.barrier()
        self._heart = heartbeat.Heart(run_folder, rank=self._rank, world_size=dist.get_world_size(), tell=tell)
        self._memory = memory.MemoryTimeline(device)
        self._writers: dict[str, LineWriter] = {}
        self._attempt, self._every = 0, Intervals(1, None)
        self._measure_held_out: MeasureHeldOut = _no_points
        self._measured_step = True
        self._progress = RunProgress()
        self._warnings: list[str] = []
        self._warned: LineWriter | None = None
        self._phase, self._step, self._entered = "start", 0, time.perf_counter()

    def begin(self, progress: RunProgress, *, attempt: int, every: Intervals, measure_held_out: MeasureHeldOut) -> None:
        """Begin training: open the files, and measure the base.

        Args:
            progress: The run's progress.
            attempt: Number of this start.
            every: How often to measure.
            measure_held_out: Scores the watched sets with the current weights; collective.
        """
        self._attempt, self._every, self._measure_held_out, self._progress = attempt, every, measure_held_out, progress
        if self._rank == 0:
            self._writers = {kind: LineWriter(self._folder, kind, attempt) for kind in _STREAMS}
        early, self._warnings = self._warnings, []
        self._warned = LineWriter(self._folder, EVENTS, attempt, rank=self._rank)
        for text in early:
            self.warn(text)
        if every.held_out is not None and progress.step == 0:
            self._score(progress)

    def enter(self, phase: str, step: int | None = None) -> None:
        """This worker begins a phase, of the current step if none is given."""
        now = time.perf_counter()
        if self._phase == "checkpoint":
            self._tell_checkpoint(now - self._entered)
        self._phase, self._step, self._entered = phase, self._step if step is None else step, now
        self._heart.beat(phase, self._step)
        self._memory.enter(phase, self._step)

    def move(self) -> None:
        """This worker is alive, in the same phase of the same step."""
        self._heart.beat(self._phase, self._step)

    def stop_wanted(self) -> bool:
        """Whether the driver has answered a heartbeat of this worker with the wish that the workers stop."""
        return self._heart.stop_wanted

    def log(self, metrics: StepMetrics) -> None:
        """Write a step's metrics."""
        self._write(METRICS, [metrics])

    def report(self, event: RunEvent) -> None:
        """Write an event."""
        self._write(EVENTS, [event])

    def warn(self, text: str) -> None:
        """Record a warning of this worker; before training begins, keep it for later. Other threads may warn too."""
        writer = self._warned
        if writer is None:
            self._warnings.append(text)
            return
        event = RunEvent(
            kind="warning",
            attempt=self._attempt,
            step=self._progress.step,
            tokens_seen=self._progress.tokens_seen,
            text=text,
            rank=self._rank,
        )
        with contextlib.suppress(ValueError):  # closed by another thread
            writer.write(event)

    def due(self, before: RunProgress, after: RunProgress) -> bool:
        """Whether `observe` will measure something after a step, and so needs to know what became of it."""
        return self._measured_step or _passes(self._every.held_out, before, after)

    def observe(self, before: RunProgress, after: RunProgress) -> None:
        """Measure what is due after a step; collective."""
        self._progress = after
        if _passes(self._every.held_out, before, after):
            self._score(after)
        if self._measured_step:
            self._gather_memory()
            self._measured_step = False
        elif _passes(self._every.memory, before, after):
            self._measured_step = True  # the next step is measured whole
        self._memory.measure_next(self._measured_step)

    def close(self) -> None:
        """Write the remaining measurements; collective."""
        self.enter("end")
        self._gather_memory()
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def stop(self) -> None:
        """Stop the heartbeat, however training ended."""
        self._heart.close()
        if self._warned is not None:
            self._warned.close()

    def _score(self, progress: RunProgress) -> None:
        self.enter("held_out", progress.step)
        self._write(HELD_OUT, self._measure_held_out(progress))
        self.enter("steps")

    def _gather_memory(self) -> None:
        self._write(MEMORY, self._memory.gather(attempt=self._attempt, tokens_seen=self._progress.tokens_seen))

    def _tell_checkpoint(self, seconds: float) -> None:
        text = f"training paused for {seconds:.1f} s"
        event = RunEvent(
            kind="checkpoint",
            attempt=self._attempt,
            step=self._step,
            tokens_seen=self._progress.tokens_seen,
            text=text,
            seconds=seconds,
        )
        self._write(EVENTS, [event])

    def _write(self, kind: str, records: Iterable[Record]) -> None:
        if kind in self._writers:
            for record in records:
                self._writers[kind].write(record)


def _passes(every: int | None, before: RunProgress, after: RunProgress) -> bool:
    return every is not None and before.tokens_spent // every < after.tokens_spent // every


def _no_points(_: RunProgress) -> list[HeldOutPoint]:
    return []
