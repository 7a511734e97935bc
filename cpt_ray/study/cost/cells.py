"""The cost of a study before it is paid, cell by cell.

In: a cell of the graph. Out: the records of `plan`, or an error that names the key to change. Counted where shards exist,
estimated where they do not.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.errors import ConfigError
from cpt_ray.plan.advice import Advice, Asked, find_fit
from cpt_ray.plan.budget import plan_study
from cpt_ray.plan.checks import check_cooldowns, check_epochs, check_memory
from cpt_ray.plan.hardware import HardwareProfile
from cpt_ray.plan.hours import Hours, Scored, Text, plan_time
from cpt_ray.plan.memory import Work
from cpt_ray.plan.pace import RAY_START_S, Load, planned_pace
from cpt_ray.plan.trials import SavedTrial, beyond_estimate, fitting_trial, tried
from cpt_ray.records import DiskPlan, MemoryPlan, StudyPlan, TimePlan
from cpt_ray.study import store
from cpt_ray.study.cost.amounts import scored_text, text_bytes
from cpt_ray.study.cost.disk import CellCost, Training, plan_disk
from cpt_ray.study.cost.place import AS_CONFIGURED, Choice, Where, find_place
from cpt_ray.study.cost.shapes import model_shapes
from cpt_ray.study.cost.trials import read_rate, read_trials
from cpt_ray.study.graph import CellGraph, distinct
from cpt_ray.study.inspect.trace import shards_of
from cpt_ray.study.stages.filter.derived import DERIVED
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Node
from cpt_ray.study.stages.train import TRAIN, deepspeed_of
from cpt_ray.train.order.batch_split import BatchSplit

_IMPORT_S = 15.0
"""Import of a base, and start of what prepares, without Ray."""


class Cost(NamedTuple):
    """What a cell costs."""

    plan: StudyPlan
    memory: list[MemoryPlan]
    time: TimePlan | None
    """None where the hardware is not known."""
    advice: list[Advice]
    """What to change where a model does not fit."""
    asked: list[Asked]
    """What memory was asked of, model by model."""
    hours: Hours | None
    """What time was worked out from."""
    demand: dict[str, float]
    """What a worker asks a Ray cluster for; empty without Ray."""
    disk: DiskPlan


def plan_cell(graph: CellGraph, choice: Choice = AS_CONFIGURED) -> Cost:
    """The cost of one cell, as if it were alone, on the hardware that is chosen.

    Raises:
        ConfigError: If the shape of a model cannot be read.
    """
    # Asked for by several steps of a command; what preparation counts changes it once.
    supply = _supply(graph)
    key = f"plan {graph.cell.name} {'estimated' if supply.tokens is None else 'counted'} {choice}"
    return graph.once(key, functools.partial(_planned, graph, supply, read_trials(graph), choice))


def _planned(graph: CellGraph, supply: _Supply, trials: Sequence[SavedTrial], choice: Choice) -> Cost:
    config = graph.config
    specs = [node.work.spec for node in graph.of(TRAIN)]
    shapes = model_shapes(graph)
    plan = plan_study(config, shapes, specs, supply.tokens, rows=supply.rows, measured_keys=supply.keys)
    where = graph.once(f"where {choice}", lambda: find_place(config.runtime, choice))
    work = Work(where.place, config.prepare.pack.sequence_length, where.card, where.room_bytes)
    saved = {name: fitting_trial(trials, shape, config.train, where.device) for name, shape in shapes.items()}
    asked: list[Asked] = []
    memory: list[MemoryPlan] = []
    for name, shape in shapes.items():
        found = saved[name]
        beyond = None if found is None else beyond_estimate(found, work)
        asked.append(Asked(name, shape, deepspeed_of(graph), config.train, where.workers, work._replace(measured_bytes=beyond)))
        memory.append(asked[-1].memory(specs=specs))
    advice = [find_fit(one) for one, plan_of_it in zip(asked, memory, strict=True) if plan_of_it.fits is False]
    hours = None if where.hardware is None else _hours(graph, where, where.hardware, memory, supply, saved)
    time = None if hours is None else plan_time(hours, plan.runs, specs, config.train)
    demand = _demand(config.runtime, where)
    training = Training(time, where.workers, where.groups or 1, tuple(specs))
    disk = plan_disk([CellCost(graph, memory)], training)
    return Cost(plan, memory, time, advice, asked, hours, demand, disk)


def _demand(runtime: RuntimeConfig, where: Where) -> dict[str, float]:
    """What a worker asks Ray for: as configured, with a GPU if one is planned with."""
    if runtime.kind == "local":
        return {}
    return {**runtime.worker_demand, **({"GPU": runtime.gpus_per_worker or 1.0} if where.place.on_gpu else {})}


def _hours(
    graph: CellGraph,
    where: Where,
    hardware: HardwareProfile,
    memory: Sequence[MemoryPlan],
    supply: _Supply,
    saved: Mapping[str, SavedTrial | None],
) -> Hours:
    """What the time of a cell is worked out from."""
    config, runtime = graph.config, graph.config.runtime
    row_tokens = config.prepare.pack.sequence_length
    keys = list((supply.keys or {}).values())
    mean_keys = sum(keys) / len(keys) if keys else row_tokens / 2
    shapes, deepspeed = model_shapes(graph), deepspeed_of(graph)
    loads = {
        one.model: Load(
            shapes[one.model],
            config.train,
            deepspeed,
            BatchSplit(config.train.global_batch_size, where.workers, one.rows),
            row_tokens,
            mean_keys,
        )
        for one in memory
    }
    rate = read_rate(graph)
    ray_start = RAY_START_S if where.ray else 0.0
    size = text_bytes(graph)
    text = Text(size, min(runtime.units_at_once, os.cpu_count() or 1), ray_start + _IMPORT_S)
    text = text._replace(packed_again=(size or 0.0) * (len(distinct(graph.of(SHARDS))) - 1))
    if rate is not None:
        text = text._replace(bytes_per_s=rate, measured=True)
    scored = graph.once(f"scored {config.evaluate} {graph.cell.name}", lambda: scored_text(graph))
    at_once = min(runtime.evaluate_workers, max(1, scored.models)) if runtime.kind == "ray" else 1
    each = runtime.scoring_gpus or 1.0 if hardware.is_gpu or runtime.kind == "ray" else where.cores
    return Hours(
        hardware=hardware,
        cores=where.cores,
        loads=loads,
        paces={name: planned_pace(load, hardware, where.cores, tried(saved[name])) for name, load in loads.items()},
        text=text,
        scored=Scored(
            scored.models, scored.tokens, at_once, at_once * each, scored.counted, len(config.evaluate.harness_tasks)
        ),
        groups=where.groups or 1,
        groups_asked=where.groups is not None,
        ray_start_s=ray_start,
        measured=all(saved.values()),
    )


def require_cell(graph: CellGraph) -> None:
    """Reject budgets that repeat a source too often or end before their cooldown, and models that do not fit.

    Raises:
        ConfigError: Naming the cell, the budget, and the key to change.
    """
    try:
        cost = plan_cell(graph)
        check_cooldowns(cost.plan)
        check_epochs(cost.plan)
        check_memory(cost.memory)
    except ConfigError as error:
        if not graph.cell.name:
            raise
        raise ConfigError(f"cell {graph.cell.name}: {error.problem}", fix=error.fix) from None


class _Supply(NamedTuple):
    """What is packed of each source for the first model; None until all of it is."""

    tokens: dict[str, int] | None = None
    """Loss-bearing."""
    rows: dict[str, int] | None = None
    keys: dict[str, float] | None = None
    """Mean attended keys per query."""


def _supply(graph: CellGraph) -> _Supply:
    model = graph.config.models[0].name
    packed: list[Node[Any, Any]] = [
        graph.one(SHARDS, model),
        *(node for node in graph.of(DERIVED) if node.work.model == model),
    ]
    if not all(store.exists(node) for node in packed):
        return _Supply()
    names = [source.name for source in graph.config.sources if source.is_packed]
    key = f"supply {names} {[node.fingerprint for node in packed]}"
    return graph.once(key, functools.partial(_counted, graph, names, model))


def _counted(graph: CellGraph, names: Sequence[str], model: str) -> _Supply:
    folder, manifest = shards_of(graph, model)
    reader = ShardReader(folder, manifest, verify=False)
    return _Supply(
        {name: manifest.loss_tokens(name) for name in names},
        {name: manifest.rows(name) for name in names},
        {name: reader.mean_keys(name) for name in names},
    )
