"""The cost of a grid: each cell alone, and all together, where what cells share is paid once.

In: the graph, and what the command assumes. Out: a `GridCost`: tokens, time and money, disk, and the memory of the cell that
needs the most. Guarantee: a run, a text, a score that an earlier cell has costs a later one nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cpt_ray.plan.hours import Hours, Part, Scored, Text, plan_parts
from cpt_ray.records import DiskPlan, GridPlan, MemoryPlan, PlannedCell, RunSpec, TimePlan
from cpt_ray.study.cost.cells import Cost, plan_cell
from cpt_ray.study.cost.disk import CellCost, Training, plan_disk
from cpt_ray.study.cost.place import AS_CONFIGURED, Choice
from cpt_ray.study.graph import CellGraph, StudyGraph, distinct
from cpt_ray.study.grid import Grid
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.shards import SHARDS


class GridCost(NamedTuple):
    """What the chosen cells of a grid cost."""

    plan: GridPlan
    time: TimePlan | None
    """Of all cells together; None where the hardware is not known."""
    disk: DiskPlan
    cells: dict[str, Cost]
    """Each cell by its name, as if it were alone."""

    @property
    def worst(self) -> str:
        """The cell whose workers need the most memory, a cell that does not fit before one that does."""
        return max(self.cells, key=lambda name: (not _fits(self.cells[name]), _peak(self.cells[name])))

    @property
    def memory(self) -> list[MemoryPlan]:
        """Of the models of that cell."""
        return self.cells[self.worst].memory


def _peak(cost: Cost) -> int:
    return max(plan.peak_bytes for plan in cost.memory)


def _fits(cost: Cost) -> bool:
    return all(plan.fits is not False for plan in cost.memory)


def plan_grid(graph: StudyGraph, choice: Choice = AS_CONFIGURED) -> GridCost:
    """The cost of all chosen cells.

    Raises:
        ConfigError: If the shape of a model cannot be read.
    """
    costs = {cell.cell.name: plan_cell(cell, choice) for cell in graph.cells}
    new = _new_runs(graph)
    parts = _parts(graph.cells, costs, new)
    time = plan_parts(parts) if parts else None
    first = next(iter(costs.values()))
    training = Training(
        time,
        first.memory[0].num_workers,
        first.hours.groups if first.hours else 1,
        tuple(one.spec for runs in new.values() for one in runs),
    )
    plan = GridPlan(
        study=graph.config.study.name,
        cells=tuple(_planned(cell, costs[cell.cell.name], new[cell.cell.name], time) for cell in graph.cells),
        artifacts=_artifacts(graph),
    )
    disk = plan_disk([CellCost(cell, costs[cell.cell.name].memory) for cell in graph.cells], training)
    return GridCost(plan, time, disk, costs)


class _Run(NamedTuple):
    """A run that no earlier cell has."""

    plain: str
    """Its name in its cell."""
    spec: RunSpec
    """Under its name in the study, as that of its parent, which may be of an earlier cell."""


def _new_runs(graph: StudyGraph) -> dict[str, list[_Run]]:
    """By cell, the runs that no earlier one has; those that are only scored in another way are the same."""
    found = {cell.cell.name: list[_Run]() for cell in graph.cells}
    names: dict[str, str] = {}
    for member in Grid(graph).trained():  # parents first
        node = member.node
        if node.fingerprint in names:
            continue
        names[node.fingerprint] = member.name
        parent = names[node.input("parent").fingerprint] if "parent" in node.inputs else None
        spec = member.spec(node.work.spec).model_copy(update={"parent": parent})
        found[member.cell.cell.name].append(_Run(node.name, spec))
    return found


def _planned(cell: CellGraph, cost: Cost, new: Sequence[_Run], time: TimePlan | None) -> PlannedCell:
    names = {one.plain for one in new}
    runs = [run for run in cost.plan.runs if run.run in names]
    known = [plan.fits for plan in cost.memory]
    return PlannedCell(
        cell=cell.cell.name,
        runs=len(cost.plan.runs),
        new_runs=len(runs),
        tokens_seen=cost.plan.tokens_seen,
        tokens_paid=cost.plan.tokens_paid,
        new_tokens=sum(run.tokens_paid for run in runs),
        new_flops=sum(run.flops for run in runs),
        peak_bytes=_peak(cost),
        fits=False if False in known else None if None in known else True,
        new_train_s=None if time is None else sum(time.run_seconds[one.spec.name] for one in new),
    )


def _artifacts(graph: StudyGraph) -> dict[str, tuple[int, int]]:
    found = {}
    for stage in graph.stages:
        made, wanted = len(distinct(graph.of(stage))), sum(len(cell.of(stage)) for cell in graph.cells)
        if wanted:
            found[stage.name] = (made, wanted)
    return found


def _parts(cells: Sequence[CellGraph], costs: dict[str, Cost], new: dict[str, list[_Run]]) -> list[Part]:
    """What each cell adds; empty where the hardware is not known."""
    seen: set[Path] = set()
    models = len({node.folder for cell in cells for node in cell.of(EVALUATE)})
    parts = []
    for cell in cells:
        cost, added = costs[cell.cell.name], new[cell.cell.name]
        if cost.hours is None:
            return []
        runs = {run.run: run for run in cost.plan.runs}
        parts.append(
            Part(
                cell.cell.name,
                _added(cell, cost.hours, seen, models),
                [runs[one.plain].model_copy(update={"run": one.spec.name}) for one in added],
                [one.spec for one in added],
                cell.config.train,
            )
        )
    return parts


def _added(cell: CellGraph, hours: Hours, seen: set[Path], models: int) -> Hours:
    """The hours of a cell with only the text and the scores that are new; `seen` is told of them."""
    documents = cell.one(DOCUMENTS).folder not in seen
    shards = {node.folder for node in cell.of(SHARDS)} - seen
    scores = {node.folder for node in cell.of(EVALUATE)} - seen
    seen |= {cell.one(DOCUMENTS).folder} | shards | scores
    runtime, of_text, of_scores = cell.config.runtime, hours.text, hours.scored
    again = len(shards) - documents  # the first shards of a text are part of preparing it
    text: Text = of_text._replace(
        # A size that is not known stays so; nothing new is nothing.
        num_bytes=of_text.num_bytes if documents or (again > 0 and of_text.num_bytes is None) else 0.0,
        packed_again=max(0, again) * (of_text.num_bytes or 0.0),
    )
    at_once = min(runtime.evaluate_workers, max(1, models)) if runtime.kind == "ray" else 1
    scored: Scored = of_scores._replace(
        models=len(scores), at_once=at_once, devices=at_once * of_scores.devices / of_scores.at_once
    )
    return replace(hours, text=text, scored=scored)
