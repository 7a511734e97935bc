"""Hours of each stage, and of each run: what a study takes in time.

After `plan.budget` and `plan.pace`. In: planned runs, the pace of each model, and how much text is prepared and scored. Out: a
`TimePlan`. Runs share one group of workers unless the study says otherwise; a branch waits for its trunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.plan.hardware import HardwareProfile
from cpt_ray.plan.pace import Load, Pace, peak_flops
from cpt_ray.records import PlannedRun, PlannedStage, RunSpec, TimePlan

PREPARE_BYTES_PER_CORE_S = 1_900_000.0
"""Text from raw files to shards, per second of a core (benchmarks/results/scale.json, scale.prepare_speed)."""
SCORE_START_S = {"ray": 8.0, "local": 1.0}
"""Start of a process that scores, with its model; with `runtime.kind: local` it is the one that trained."""


class Text(NamedTuple):
    """The text that is prepared."""

    num_bytes: float | None
    """None where it is not known."""
    workers: int
    start_s: float
    """Of what prepares, and of the import of bases."""
    bytes_per_s: float = PREPARE_BYTES_PER_CORE_S
    """Of one worker."""
    measured: bool = False


class Scored(NamedTuple):
    """What is scored."""

    models: int
    tokens: float
    """Of each model."""
    at_once: int
    """Models that are scored side by side."""
    devices: float
    """That they occupy together."""
    counted: bool
    """Whether the tokens were counted, or assumed from the settings."""
    harness_tasks: int = 0
    """Tasks of lm-eval, whose items are not known: they come on top."""


@dataclass(frozen=True)
class Hours:
    """Everything that the time of a study is worked out from, except its runs."""

    hardware: HardwareProfile
    cores: float
    """Cores of a worker."""
    loads: Mapping[str, Load]
    """By model."""
    paces: Mapping[str, Pace]
    text: Text
    scored: Scored
    groups: int
    """Groups of workers side by side."""
    ray_start_s: float
    measured: bool
    """Whether the paces are from a trial."""


def plan_time(hours: Hours, runs: Sequence[PlannedRun], specs: Sequence[RunSpec], train: TrainConfig) -> TimePlan:
    """Work out the time of each stage.

    Args:
        hours: Paces, text and scores.
        runs: The planned runs.
        specs: Their specs, in the same order.
        train: The study's train section.
    """
    hardware, workers = hours.hardware, next(iter(hours.loads.values())).split.workers
    devices = workers * (1.0 if hardware.is_gpu else hours.cores)
    run_seconds = {run.run: _run_s(run, spec, hours, train) for run, spec in zip(runs, specs, strict=True)}
    price = hardware.price
    speed = {name: _tokens_per_s(load, hours.paces[name]) for name, load in hours.loads.items()}
    return TimePlan(
        hardware=hardware.name,
        description=hardware.description,
        device="GPU" if hardware.is_gpu else "CPU",
        workers=workers,
        stages=(
            _prepare(hours),
            PlannedStage(
                stage="train",
                seconds=_train_s(run_seconds, specs, hours),
                devices=devices * hours.groups,
                basis="trial" if hours.measured else "profile",
            ),
            _evaluate(hours),
        ),
        tokens_per_s=speed,
        mfu={name: _mfu(load, hours, speed[name], train) for name, load in hours.loads.items()},
        run_seconds=run_seconds,
        basis="steps of this model measured by --measure"
        if hours.measured
        else f"{100 * hardware.achieved_share:.0f} % of {hardware.peak_bf16_flops / 1e12:g} TFLOP/s per {hardware.per}: "
        f"{hardware.achieved_source}",
        price_per_hour=price.per_hour if price else None,
        currency=price.currency if price else "",
        price_date=price.date if price else "",
    )


def _tokens_per_s(load: Load, pace: Pace) -> float:
    split = load.split
    return split.rows * load.row_tokens / pace.optimizer_step_s(split)


def _mfu(load: Load, hours: Hours, tokens_per_s: float, train: TrainConfig) -> float:
    """Share of the workers' peak, in model FLOPs."""
    per_token = load.pass_flops / (load.split.micro_batch * load.row_tokens)
    return tokens_per_s * per_token / (load.split.workers * peak_flops(hours.hardware, train, hours.cores))


def _run_s(run: PlannedRun, spec: RunSpec, hours: Hours, train: TrainConfig) -> float:
    """A run's own time: model and engine, steps, checkpoints, exports."""
    load, pace = hours.loads[run.model], hours.paces[run.model]
    saves = run.tokens_paid // train.checkpoint_every + len(spec.branch_tokens)
    exports = (run.budget_tokens is not None) + len(run.trajectory_tokens) + len(run.average_tokens)
    return pace.build_s + run.steps * pace.optimizer_step_s(load.split) + saves * pace.save_s + exports * pace.export_s


def _train_s(run_seconds: Mapping[str, float], specs: Sequence[RunSpec], hours: Hours) -> float:
    """All runs in their groups: at least the longest line from a trunk to a branch."""
    if not run_seconds:
        return 0.0
    lines: dict[str, float] = {}
    for spec in specs:  # parents come first
        lines[spec.name] = run_seconds[spec.name] + lines.get(spec.parent or "", 0.0)
    start = hours.ray_start_s + max(pace.start_s for pace in hours.paces.values())
    return start + max(max(lines.values()), sum(run_seconds.values()) / hours.groups)


def _prepare(hours: Hours) -> PlannedStage:
    text = hours.text
    seconds = None if text.num_bytes is None else text.start_s + text.num_bytes / (text.bytes_per_s * text.workers)
    return PlannedStage(
        stage="prepare",
        seconds=seconds,
        devices=0.0 if hours.hardware.is_gpu else float(text.workers),
        basis="the size of the text is not known"
        if seconds is None
        else f"{(text.num_bytes or 0) / 1e6:,.0f} MB at {text.bytes_per_s / 1e6:.2f} MB/s per core, "
        + ("measured" if text.measured else "assumed"),
    )


def _evaluate(hours: Hours) -> PlannedStage:
    scored = hours.scored
    pace = min(hours.paces.values(), key=lambda one: one.score_tokens_per_s)
    rounds = -(-scored.models // scored.at_once)
    # Under Ray a model is scored on one core, or on one GPU.
    rate = pace.score_tokens_per_s / (1.0 if hours.hardware.is_gpu else hours.cores / (scored.devices / scored.at_once))
    each = SCORE_START_S["ray" if hours.ray_start_s else "local"] + scored.tokens / rate
    return PlannedStage(
        stage="evaluate",
        seconds=rounds * each if scored.models else 0.0,
        devices=scored.devices,
        basis=f"{scored.models} models, {scored.tokens:,.0f} tokens each, {'counted' if scored.counted else 'assumed'}"
        + (f"; {scored.harness_tasks} lm-eval tasks come on top" if scored.harness_tasks else ""),
    )
