"""Planned beside measured: the peak memory of each model's workers, and the time of each stage.

In: a study's records. Out: a table, or None where nothing can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator

from cpt_ray.report.blocks import Cell, Table
from cpt_ray.report.contents import PlannedCost, ReportContents
from cpt_ray.report.wording import byte_size, duration, percent


def planned_table(contents: ReportContents) -> Table | None:
    """What `cpt-ray plan` says of this study, what was measured, and by how much the plan is off."""
    planned = contents.planned
    rows = [] if planned is None else [*_memory(contents, planned), *_times(planned)]
    if planned is None or not rows:
        return None
    when = (
        "The plan is that of cpt-ray plan when the study's commands began, before anything of a stage was made: from the sizes "
        "of its sources, and trials of plan --measure if there were any."
        if planned.foreseen
        else "The plan is worked out again from the settings, as cpt-ray plan does, with what is known now: tokens of the "
        "shards, and trials of plan --measure if there are any."
    )
    measured = (
        "Memory is the highest of any worker of the model's runs; the time of a stage is that in which its artifacts were made."
    )
    notes = [f"Times rest on {planned.basis}."] if planned.basis and planned.seconds else []
    if planned.cells > 1:
        notes.append(
            f"Times are of the {planned.cells} cells together, what they share counted once; memory is that of the cell which "
            "needs the most."
        )
    header = ("what", "planned", "measured", "difference")
    return Table.of("planned", "Planned beside measured", header, rows, lead=f"{when} {measured}", notes=notes)


def _memory(contents: ReportContents, planned: PlannedCost) -> Iterator[tuple[Cell | str, ...]]:
    """A row per model on GPUs; one for all on CPUs, where a worker keeps the memory of one run in the next."""
    trained = [(run.model, run.training) for run in contents.runs if run.training is not None]
    workers = f"{planned.workers} worker{'s' * (planned.workers > 1)}"
    if planned.on_gpu:
        for model, size in planned.peak_bytes.items():
            known = [peak for name, one in trained if name == model and (peak := one.cost.device_peak_bytes) is not None]
            if known:
                yield _compared(Cell(f"GPU memory of a worker, {model}", (workers,)), size, max(known))
        return
    # Trajectory points have the cost of their run, so they change nothing here.
    peaks = [peak for _, one in sorted(trained, key=lambda pair: pair[1].interval) if (peak := one.cost.host_peak_bytes)]
    if peaks and planned.peak_bytes:
        first = (f"{byte_size(peaks[0])} in its first run",) if len(peaks) > 1 else ()
        yield _compared(Cell("memory of a worker", (workers,)), max(planned.peak_bytes.values()), max(peaks), first)


def _compared(what: Cell, planned: int, measured: int, small: tuple[str, ...] = ()) -> tuple[Cell, ...]:
    shown = Cell(byte_size(planned), raw=planned), Cell(byte_size(measured), small, raw=measured)
    return (what, *shown, _difference(planned, measured))


def _times(planned: PlannedCost) -> Iterator[tuple[Cell | str, ...]]:
    for stage, seconds in planned.seconds.items():
        measured = planned.measured_seconds.get(stage)
        if measured:
            yield (
                f"time of {stage}",
                Cell(duration(seconds), raw=seconds),
                Cell(duration(measured), raw=measured),
                _difference(seconds, measured),
            )


def _difference(planned: float, measured: float) -> Cell:
    off = planned / measured - 1
    return Cell(percent(100 * off), raw=off)
