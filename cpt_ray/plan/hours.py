"""Hours of each stage, and of each run: what a study takes in time.

After `plan.budget` and `plan.pace`. In: planned runs, the pace of each model, and how much text is prepared and scored; of a
grid, what each cell adds to those before it. Out: a `TimePlan`. Runs share the groups of workers that there is room for; a
branch waits for its trunk.
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
PACK_BYTES_PER_CORE_S = 3_500_000.0
"""The part of it that tokenizes, packs and writes (benchmarks/results/data.json)."""
_SAME = 1.01
"""Speeds whose ratio is below it are said once."""
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
    packed_again: float = 0.0
    """Bytes that are tokenized and packed once more, for another tokenizer or other rows."""

    @property
    def work_s(self) -> float:
        """Without the start."""
        return (self.num_bytes or 0.0) / (self.bytes_per_s * self.workers) + self.packed_again / (
            PACK_BYTES_PER_CORE_S * self.workers
        )


class Scored(NamedTuple):
    """What is scored."""

    models: int
    tokens: float
    """Of each model."""
    at_once: int
    """Models that are scored side by side."""
    devices: float
    """That they occupy together; models share a GPU where each occupies less than one."""
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
    """Groups of workers that there is room for."""
    ray_start_s: float
    measured: bool
    """Whether the paces are from a trial."""
    groups_asked: bool = True
    """Whether that room is known: a cluster is asked when the study runs."""


class Part(NamedTuple):
    """What is paid of a study: all of it, or what a cell of a grid adds to the cells before it."""

    cell: str
    """Its name; empty for a study without axes."""
    hours: Hours
    runs: Sequence[PlannedRun]
    """Their names are unique over all parts, as are those of their specs."""
    specs: Sequence[RunSpec]
    """In the order of the runs."""
    train: TrainConfig


def plan_time(hours: Hours, runs: Sequence[PlannedRun], specs: Sequence[RunSpec], train: TrainConfig) -> TimePlan:
    """Work out the time of each stage of a study without axes.

    Args:
        hours: Paces, text and scores.
        runs: The planned runs.
        specs: Their specs, in the same order.
        train: The study's train section.
    """
    return plan_parts([Part("", hours, runs, specs, train)])


def plan_parts(parts: Sequence[Part]) -> TimePlan:
    """Work out the time of each stage over parts that are prepared, trained and scored together: each stage starts once."""
    hours = parts[0].hours
    hardware, workers = hours.hardware, next(iter(hours.loads.values())).split.workers
    devices = workers * (1.0 if hardware.is_gpu else hours.cores)
    run_seconds = {
        run.run: _run_s(run, spec, part.hours, part.train)
        for part in parts
        for run, spec in zip(part.runs, part.specs, strict=True)
    }
    specs = [spec for part in parts for spec in part.specs]
    groups, price = groups_in_use(hours.groups, specs), hardware.price
    measured = all(part.hours.measured for part in parts)
    speed = {
        (part.cell, name): _tokens_per_s(load, part.hours.paces[name])
        for part in parts
        for name, load in part.hours.loads.items()
    }
    ends = _slowest_and_fastest(speed)
    of_cell = {part.cell: part for part in parts}
    return TimePlan(
        hardware=hardware.name,
        description=hardware.description,
        device="GPU" if hardware.is_gpu else "CPU",
        workers=workers,
        stages=(
            _prepare(parts),
            PlannedStage(
                stage="train",
                seconds=_train_s(run_seconds, specs, parts, groups),
                devices=devices * groups,
                basis=("trial" if measured else "profile") + _said_of_groups(groups, known=hours.groups_asked),
            ),
            _evaluate(parts),
        ),
        tokens_per_s={label: speed[place] for label, place in ends.items()},
        mfu={
            label: _mfu(part.hours.loads[name], part.hours, speed[cell, name], part.train)
            for label, (cell, name) in ends.items()
            for part in [of_cell[cell]]
        },
        run_seconds=run_seconds,
        basis="steps of this model measured by --measure"
        if measured
        else f"{100 * hardware.achieved_share:.0f} % of {hardware.peak_bf16_flops / 1e12:g} TFLOP/s per {hardware.per}: "
        f"{hardware.achieved_source}",
        price_per_hour=price.per_hour if price else None,
        currency=price.currency if price else "",
        price_date=price.date if price else "",
    )


def groups_in_use(room: int, specs: Sequence[RunSpec]) -> int:
    """How many groups of workers ever train at once: as many as there is room for, and as there are runs that nothing follows.

    As the queue starts them (`train/groups/queue.py`): a branch trains beside its trunk, and the last one follows it.
    """
    parents = {spec.parent for spec in specs}
    return max(1, min(room, sum(spec.name not in parents for spec in specs)))


def _said_of_groups(groups: int, *, known: bool) -> str:
    if not known:
        return (
            "; one group of workers, as the cluster is asked for its room when the study runs: runtime.parallel_runs=N plans N"
        )
    return f"; {groups} groups of workers side by side" if groups > 1 else ""


def _slowest_and_fastest(speed: Mapping[tuple[str, str], float]) -> dict[str, tuple[str, str]]:
    """By label the cell and the model: each model once, or in the cells where it is slowest and fastest."""
    found: dict[str, tuple[str, str]] = {}
    for model in dict.fromkeys(model for _, model in speed):
        places = [place for place in speed if place[1] == model]
        slow, fast = min(places, key=lambda place: speed[place]), max(places, key=lambda place: speed[place])
        if speed[fast] <= speed[slow] * _SAME:
            found[model] = places[0]
        else:
            found |= {f"{model} in {cell}": (cell, name) for cell, name in (slow, fast)}
    return found


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


def _train_s(run_seconds: Mapping[str, float], specs: Sequence[RunSpec], parts: Sequence[Part], groups: int) -> float:
    """All runs in their groups: at least the longest line from a trunk to a branch."""
    if not run_seconds:
        return 0.0
    lines: dict[str, float] = {}
    for spec in specs:  # parents come first
        lines[spec.name] = run_seconds[spec.name] + lines.get(spec.parent or "", 0.0)
    start = parts[0].hours.ray_start_s + max(pace.start_s for part in parts for pace in part.hours.paces.values())
    return start + max(max(lines.values()), sum(run_seconds.values()) / groups)


def _prepare(parts: Sequence[Part]) -> PlannedStage:
    texts = [part.hours.text for part in parts]
    known = all(text.num_bytes is not None for text in texts)
    rates = dict.fromkeys((text.bytes_per_s, text.measured) for text in texts if text.num_bytes)
    size = sum((text.num_bytes or 0.0) + text.packed_again for text in texts)
    return PlannedStage(
        stage="prepare",
        seconds=max(text.start_s for text in texts) + sum(text.work_s for text in texts) if known else None,
        devices=0.0 if parts[0].hours.hardware.is_gpu else float(texts[0].workers),
        basis=f"{size / 1e6:,.0f} MB at "
        + " and ".join(f"{rate / 1e6:.2f} MB/s per core, {'measured' if found else 'assumed'}" for rate, found in rates)
        if known
        else "the size of the text is not known",
    )


def _evaluate(parts: Sequence[Part]) -> PlannedStage:
    """Rounds of models side by side, each as long as a model takes on average."""
    scored = [part.hours.scored for part in parts]
    models = sum(one.models for one in scored)
    at_once = max(one.at_once for one in scored)
    total = sum(part.hours.scored.models * _model_s(part.hours) for part in parts)
    tokens = sum(one.models * one.tokens for one in scored) / max(1, models)
    tasks = max(one.harness_tasks for one in scored)
    return PlannedStage(
        stage="evaluate",
        seconds=-(-models // at_once) * total / models if models else 0.0,
        devices=max(one.devices for one in scored),
        basis=f"{models} models, {tokens:,.0f} tokens each, {'counted' if all(one.counted for one in scored) else 'assumed'}"
        + (f"; {tasks} lm-eval tasks come on top" if tasks else ""),
    )


def _model_s(hours: Hours) -> float:
    """Of one model, scored: the mean over the models of a cell, each of which has as many runs."""
    scored = hours.scored
    each = scored.devices / scored.at_once
    # Under Ray a model is scored on one core, or on one GPU, which it may share with others.
    slower = max(1.0, min(scored.at_once, 1 / each)) if hours.hardware.is_gpu else hours.cores / each
    token_s = [slower / pace.score_tokens_per_s for pace in hours.paces.values()]
    return SCORE_START_S["ray" if hours.ray_start_s else "local"] + scored.tokens * sum(token_s) / len(token_s)
