"""The cost of a study before it is paid: per cell, and over a grid, where what cells share counts once.

In: the graph. Out: the records of `plan`, or an error that names the key to change. Counted where shards exist, estimated where
they do not.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.errors import ConfigError
from cpt_ray.plan.budget import plan_study
from cpt_ray.plan.checks import check_cooldowns, check_epochs, check_memory
from cpt_ray.plan.memory import estimate_memory
from cpt_ray.records import GridPlan, MemoryPlan, PlannedCell, StudyPlan
from cpt_ray.study import store
from cpt_ray.study.cost.shapes import model_shapes
from cpt_ray.study.graph import CellGraph, StudyGraph, distinct
from cpt_ray.study.inspect.trace import shards_of
from cpt_ray.study.preflight.device import planned_card
from cpt_ray.study.stages.filter.derived import DERIVED
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Node
from cpt_ray.study.stages.train import TRAIN, deepspeed_of


def plan_cell(graph: CellGraph) -> tuple[StudyPlan, list[MemoryPlan]]:
    """The cost of one cell, as if it were alone, and the memory of its models.

    Raises:
        ConfigError: If the shape of a model cannot be read.
    """
    # Asked for by several steps of a command; what preparation counts changes it once.
    supply = _supply(graph)
    key = f"plan {graph.cell.name} {'estimated' if supply.tokens is None else 'counted'}"
    return graph.once(key, functools.partial(_planned, graph, supply))


def _planned(graph: CellGraph, supply: _Supply) -> tuple[StudyPlan, list[MemoryPlan]]:
    config = graph.config
    specs = [node.work.spec for node in graph.of(TRAIN)]
    shapes = model_shapes(graph)
    plan = plan_study(config, shapes, specs, supply.tokens, rows=supply.rows, measured_keys=supply.keys)
    deepspeed = deepspeed_of(graph)
    card = graph.once("card", lambda: planned_card(config.runtime))
    workers = config.runtime.group.min
    memory = [
        estimate_memory(name, shape=shape, deepspeed=deepspeed, train=config.train, num_workers=workers, specs=specs, card=card)
        for name, shape in shapes.items()
    ]
    return plan, memory


def plan_cells(graph: StudyGraph) -> GridPlan:
    """The cost of all chosen cells; a run that an earlier cell has costs a later one nothing."""
    seen: set[str] = set()
    cells = []
    totals: dict[str, tuple[int, int]] = {}
    for cell in graph.cells:
        plan, _ = plan_cell(cell)
        prints = {node.name: node.fingerprint for node in cell.of(TRAIN)}
        new = [run for run in plan.runs if prints[run.run] not in seen]
        seen.update(prints.values())
        cells.append(
            PlannedCell(
                cell=cell.cell.name,
                runs=len(plan.runs),
                new_runs=len(new),
                tokens_seen=plan.tokens_seen,
                tokens_paid=plan.tokens_paid,
                new_tokens=sum(run.tokens_paid for run in new),
                new_flops=sum(run.flops for run in new),
            )
        )
    for stage in graph.stages:
        made, wanted = len(distinct(graph.of(stage))), sum(len(cell.of(stage)) for cell in graph.cells)
        if wanted:
            totals[stage.name] = (made, wanted)
    return GridPlan(study=graph.config.study.name, cells=tuple(cells), artifacts=totals)


def require_cell(graph: CellGraph) -> None:
    """Reject budgets that repeat a source too often or end before their cooldown, and models that do not fit.

    Raises:
        ConfigError: Naming the cell, the budget, and the key to change.
    """
    try:
        plan, memory = plan_cell(graph)
        check_cooldowns(plan)
        check_epochs(plan)
        check_memory(memory)
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
