"""Memory, time, money and disk of a plan, and whether it fits, as `cpt-ray plan` prints them. Every figure is an estimate."""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.config.values import format_count
from cpt_ray.records import DiskPlan, MemoryPlan, PlannedStage, TimePlan
from cpt_ray.report.text.table import text_table
from cpt_ray.report.wording import duration

_GIB = 1 << 30
NO_HARDWARE = "Time and money: name the hardware to plan them, as in --hardware h100 (docs/plan.md)."


def render_time(plan: TimePlan | None) -> str:
    """Stages with their wall time, device hours and money."""
    if plan is None:
        return NO_HARDWARE
    money = [f"money, {plan.currency}"] if plan.price_per_hour is not None else []
    header = ("stage", "time", f"{plan.device}s", f"{plan.device} hours", *money, "rests on")
    body = [_stage_row(stage, plan) for stage in plan.stages]
    total = sum(stage.device_hours or 0.0 for stage in plan.stages)
    paid = [f"{plan.money:.2f}"] if plan.money is not None else []
    body.append(("all", duration(plan.seconds), "", f"{total:.2f}", *paid, _without(plan)))
    speed = ", ".join(
        f"{model} {format_count(rate)} tokens/s ({100 * plan.mfu[model]:.0f} % of the peak)"
        for model, rate in plan.tokens_per_s.items()
    )
    lines = [
        f"Time on {plan.hardware} ({plan.description}), {plan.workers} worker{'s' * (plan.workers > 1)}",
        _left_last(header, body),
        f"Training: {speed}. It rests on {plan.basis}.",
    ]
    if plan.price_per_hour is not None:
        lines.append(f"Price: {plan.price_per_hour:g} {plan.currency} per {plan.device} hour on {plan.price_date}.")
    return "\n".join(lines)


def _stage_row(stage: PlannedStage, plan: TimePlan) -> tuple[str, ...]:
    hours = stage.device_hours
    money = () if plan.price_per_hour is None else ("?" if hours is None else f"{hours * plan.price_per_hour:.2f}",)
    return (
        stage.stage,
        "?" if stage.seconds is None else duration(stage.seconds),
        f"{stage.devices:g}",
        "?" if hours is None else f"{hours:.2f}",
        *money,
        stage.basis,
    )


def _left_last(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table whose last column is text."""
    last = max(len(row[-1]) for row in (header, *body))
    return text_table(
        [*header[:-1], header[-1].ljust(last)], [[*row[:-1], row[-1].ljust(last)] for row in body], text_columns=1
    )


def render_memory(memory: Sequence[MemoryPlan]) -> str:
    """The memory of a worker, part by part, and the size of a checkpoint."""
    header = (
        "model", "parameters", "ZeRO", "workers", "rows", "states", "activations", "loss", "buffers", "runtime", "slack",
        "measured", "peak", "of", "host", "checkpoint",
    )  # fmt: skip
    note = (
        "Per worker, at its peak; rows are those of a forward pass. States are weights, gradients and optimizer. "
        "The parts are estimates, the column `measured` is what a trial found beyond them (--measure)."
    )
    frozen = [
        f"{item.model}: {format_count(item.frozen_parameters)} of {format_count(item.parameters)} parameters are frozen, with "
        "neither gradient nor optimizer state."
        for item in memory
        if item.frozen_parameters
    ]
    table = text_table(header, [_memory_row(item) for item in memory], text_columns=1)
    return "\n".join(["Memory, in GiB", table, note, *frozen])


def _memory_row(item: MemoryPlan) -> tuple[str, ...]:
    states = item.device_bytes + (0 if item.on_gpu else item.host_bytes)
    sizes = (states, item.activations_bytes, item.loss_bytes, item.buffers_bytes, item.base_bytes, item.spare_bytes)
    return (
        item.model,
        format_count(item.parameters),
        f"{item.zero_stage} {item.precision}",
        str(item.num_workers),
        str(item.rows),
        *map(_gib, sizes),
        "-" if item.measured_bytes is None else f"{item.measured_bytes / _GIB:+.2f}",
        _gib(item.peak_bytes),
        "?" if item.room_bytes is None else _gib(item.room_bytes),
        _gib(item.host_peak_bytes),
        _gib(item.checkpoint_bytes),
    )


def render_disk(plan: DiskPlan) -> str:
    """What is kept below the root, part by part, and what a bucket is asked."""
    header = ("read", "cleaned", "shards", "bases", "checkpoints", "exports", "scores", "below study.root")
    sizes = (
        *(plan.text_bytes, plan.documents_bytes, plan.shards_bytes, plan.bases_bytes, plan.checkpoints_bytes),
        *(plan.exports_bytes, plan.scores_bytes, plan.root_bytes),
    )
    lines = [
        "Disk, in GB, when all is done",
        text_table(header, [["?" if size is None else f"{size / 1e9:.3f}" for size in sizes]], text_columns=0),
        "Text that is read stays where it is, and is not part of the sum. Estimates; checkpoints are those that are kept.",
    ]
    if plan.requests is not None:
        lines.append(
            f"Requests to the bucket while runs train: about {format_count(round(plan.requests))}, beside a few for each file "
            "that is written or fetched (docs/operations.md)."
        )
    return "\n".join(lines)


def render_verdict(memory: Sequence[MemoryPlan], time: TimePlan | None, fixes: dict[str, tuple[tuple[str, ...], int]]) -> str:
    """Whether it fits, and what to change if not.

    Args:
        memory: Of each model.
        time: Of the study.
        fixes: Model that does not fit to overrides with which it does, and to its peak with them; none if nothing was found.
    """
    lines = []
    for item in memory:
        room = "" if item.room_bytes is None else f" of {_gib(item.room_bytes)} GiB"
        said = f"{item.model} needs {_gib(item.peak_bytes)}{room}" + ("" if room else " GiB") + " per worker"
        if item.fits is not False:
            lines.append(f"{'fits' if item.fits else 'memory'}: {said}")
            continue
        overrides, peak = fixes.get(item.model, ((), 0))
        way = f"try: {' '.join(map(_quoted, overrides))}  ({_gib(peak)} GiB)" if overrides else "no change was found that does"
        lines.append(f"does not fit: {said}; {way}")
    if time is not None:
        money = f", {time.money:.2f} {time.currency}" if time.money is not None else ""
        about, without = ("at least", f", {_without(time)}") if time.unknown else ("about", "")
        lines.append(f"takes: {about} {duration(time.seconds)}{money}{without}")
    return "\n".join(lines)


def _without(plan: TimePlan) -> str:
    """What a sum over the stages leaves out."""
    return f"without {' and '.join(plan.unknown)}, whose time is not known" if plan.unknown else ""


def _quoted(override: str) -> str:
    return f"'{override}'" if " " in override or "{" in override else override


def _gib(size: float) -> str:
    return f"{size / _GIB:.2f}"
