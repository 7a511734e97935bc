"""The record of a finished run, built from the lines that its attempts wrote."""

from __future__ import annotations

import datetime
from pathlib import Path

from cpt_ray.edges.store import address
from cpt_ray.records import (
    DrawnSource,
    HeldOutPoint,
    MemoryPoint,
    RunAttempt,
    RunMix,
    RunProgress,
    RunRecord,
    RunSpec,
    TrainingCost,
    TrainingRecord,
)
from cpt_ray.train.monitor.metrics import ATTEMPTS, HELD_OUT, MEMORY, RunSteps, read_events, read_lineage, sum_steps


def wall_clock() -> str:
    """The time in UTC, ISO 8601 with milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def read_attempts(run_folder: Path) -> tuple[RunAttempt, ...]:
    """Every start of a run, in order."""
    return tuple(RunAttempt.load(path) for path in sorted((run_folder / ATTEMPTS).glob("attempt-*.json")))


def training_record(
    run_folder: Path,
    spec: RunSpec,
    progress: RunProgress,
    mixes: tuple[RunMix, ...],
    drawn: tuple[DrawnSource, ...] = (),
) -> TrainingRecord:
    """How a run was trained, up to `progress`."""
    attempts, steps = read_attempts(run_folder), sum_steps(run_folder)
    return TrainingRecord(
        progress=progress,
        start_tokens=attempts[0].first_tokens,
        schedule=spec.schedule,
        optimizer=spec.optimizer,
        mixes=mixes,
        drawn=drawn,
        spikes=steps.spikes,
        attempts=attempts,
        ended=wall_clock(),
        cost=_cost(run_folder, steps, attempts[-1].peak_flops_per_s),
    )


def run_record(spec: RunSpec, training: TrainingRecord, *, export: Path | None, annealed: bool) -> RunRecord:
    """The record of a run, or of one of its trajectory points."""
    return RunRecord(
        run=spec.name,
        kind=spec.kind,
        model=spec.model,
        arm=spec.arm,
        seed=spec.seed,
        budget_tokens=spec.budget_tokens,
        budget_flops=spec.budget_flops,
        parent=spec.parent,
        export_path=None if export is None else address(export),
        annealed=annealed,
        training=training,
    )


def _cost(run_folder: Path, steps: RunSteps, peak_flops_per_s: float) -> TrainingCost:
    seconds = steps.seconds
    points = read_lineage(run_folder, HELD_OUT, HeldOutPoint)
    samples = read_lineage(run_folder, MEMORY, MemoryPoint)
    host = [sample.host_peak_bytes_most or sample.host_bytes for sample in samples]
    device = [sample.device_peak_bytes_most for sample in samples if sample.device_peak_bytes_most is not None]
    return TrainingCost(
        flops=steps.flops,
        mean_tokens_per_s=steps.tokens / seconds if seconds else 0.0,
        mfu=steps.flops / seconds / peak_flops_per_s if seconds else None,
        wall_s=seconds,
        data_wait_s=steps.data_wait_s,
        checkpoint_s=sum(event.seconds or 0.0 for event in read_events(run_folder) if event.kind == "checkpoint"),
        held_out_s=sum({point.step: point.seconds for point in points}.values()),
        host_peak_bytes=max(host, default=None),
        device_peak_bytes=max(device, default=None),
    )
