"""Names of runs and scores across the cells of a study.

Records know their run as its own cell does (`smol-legal-24000-seed0`), so that an artifact serves every cell that shares it. In
a study with axes, what depends on an axis is named after it: the run `smol-legal-24000-seed0@mix-half` of arm `legal@mix-half`.
A control that is the same in all cells keeps its plain name and is one run.

In: the graph of a study. Out: its runs and scores by name. Guarantee: two names are two different models, and a name does not
depend on which cells were chosen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cpt_ray.config.cells import cell_name
from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import EvalRecord, RunRecord, RunSpec
from cpt_ray.study.graph import CellGraph, StudyGraph
from cpt_ray.study.stages.evaluate import EVALUATE, ScoresNode
from cpt_ray.study.stages.merges import MERGES
from cpt_ray.study.stages.stage import Node
from cpt_ray.study.stages.train import TRAIN, RunNode
from cpt_ray.train.runs.specs import trajectory_specs

_Arm = tuple[str, str | None]
"""Model and arm by their plain names; a base has no arm."""


class Names(NamedTuple):
    """What an arm of a model, or a base, is called in the study."""

    model: str
    arm: str | None
    suffix: str
    """Of run names; empty if no axis matters."""
    axes: dict[str, str]
    """The axes that it depends on, and the names of their values."""


@dataclass(frozen=True)
class Member:
    """A run or a score as part of the study: its artifact, the first cell that has it, and its names."""

    node: Node[Any, Any]
    cell: CellGraph
    names: Names

    @property
    def name(self) -> str:
        """Of the run, unique within the study."""
        return f"{self.node.name}{self.names.suffix}"

    def spec(self, spec: RunSpec) -> RunSpec:
        """The plan of the run under its names."""
        return spec.model_copy(update={"name": self.name, **self._update(spec.parent)})

    def run(self, record: RunRecord) -> RunRecord:
        """The record of the run under its names."""
        update: dict[str, Any] = {"run": self.name, "axes": self.names.axes, **self._update(record.parent)}
        if record.merge is not None:
            update["merge"] = record.merge.model_copy(update={"run": self.name, "made_of": update["parent"]})
        return record.model_copy(update=update)

    def scores(self, record: EvalRecord) -> EvalRecord:
        """The scores of the run under its names."""
        failed = tuple(one.model_copy(update={"run": self.name}) for one in record.failed)
        return record.model_copy(update={"run": self.name, "model": self.names.model, "arm": self.names.arm, "failed": failed})

    def _update(self, parent: str | None) -> dict[str, str | None]:
        above = None if parent is None else f"{parent}{self.names.suffix}"
        return {"model": self.names.model, "arm": self.names.arm, "parent": above}


class Grid:
    """The runs and scores of a study's chosen cells, each once.

    Args:
        graph: The study's artifacts.
    """

    def __init__(self, graph: StudyGraph) -> None:
        self._graph = graph
        self._names = _name_arms(graph)

    def trained(self) -> list[Member]:
        """The runs, cell by cell, parents first."""
        return list(self._trained)

    @functools.cached_property
    def _trained(self) -> list[Member]:
        # Once: each run looks itself up as it begins.
        return self._members(lambda cell: ((node, _arm_of_run(node)) for node in cell.of(TRAIN)))

    def merged(self) -> list[Member]:
        """The models made without training, cell by cell."""
        return self._members(lambda cell: ((node, (node.work.model.name, node.work.arm)) for node in cell.of(MERGES)))

    def run(self, name: str) -> Member:
        """The run of that name.

        Raises:
            ConfigError: If there is none.
        """
        runs = self.trained()
        for one in runs:
            if one.name == name:
                return one
        for one in runs:
            marks = [point.name for point in trajectory_specs([one.node.work.spec])]
            if name in (f"{mark}{one.names.suffix}" for mark in marks):
                raise ConfigError(f"{name} is a trajectory point, not a run", fix=f"ask for {one.name}, which passed it")
        raise ConfigError(f"there is no run {name!r} in this study", fix=f"name one of {', '.join(one.name for one in runs)}")

    def scored(self) -> list[Member]:
        """The scores, cell by cell, bases first."""
        return self._members(lambda cell: ((node, _arm_of_scores(node)) for node in cell.of(EVALUATE)))

    def arms(self) -> dict[str, ArmConfig]:
        """The arms by their names in the study."""
        return {name: cell.config.arms[plain] for name, (cell, plain) in self.homes().items()}

    def homes(self) -> dict[str, tuple[CellGraph, str]]:
        """By name of an arm, the first chosen cell that has it, and its plain name there."""
        found: dict[str, tuple[CellGraph, str]] = {}
        for cell, plain, name in self._arms():
            found.setdefault(name, (cell, plain))
        return found

    def controls(self) -> dict[str, frozenset[str]]:
        """By name of an arm, the control arms of the cells that have it."""
        found: dict[str, frozenset[str]] = {}
        of_cell: dict[int, set[str]] = {}
        for cell, plain, name in self._arms():
            if cell.config.arms[plain].role == "control":
                of_cell.setdefault(id(cell), set()).add(name)
        for cell, _, name in self._arms():
            found[name] = found.get(name, frozenset()) | of_cell.get(id(cell), frozenset())
        return found

    def _arms(self) -> Iterator[tuple[CellGraph, str, str]]:
        """Cell, plain name and name in the study of every arm of every model."""
        for cell in self._graph.cells:
            for model in cell.config.models:
                for plain in cell.config.arms:
                    names = self._names[id(cell)].get((model.name, plain))
                    if names is not None and names.arm is not None:
                        yield cell, plain, names.arm

    def _members(self, nodes_of: Callable[[CellGraph], Iterable[tuple[Node[Any, Any], _Arm]]]) -> list[Member]:
        found: dict[str, Member] = {}
        for cell in self._graph.cells:
            for node, arm in nodes_of(cell):
                member = Member(node, cell, self._names[id(cell)][arm])
                found.setdefault(member.name, member)
        return list(found.values())


def _arm_of_run(node: RunNode) -> _Arm:
    return node.work.spec.model, node.work.spec.arm


def _arm_of_scores(node: ScoresNode) -> _Arm:
    return node.work.model.name, node.work.arm


def _name_arms(graph: StudyGraph) -> dict[int, Mapping[_Arm, Names]]:
    """By identity of a cell, the names of its bases and arms."""
    prints = [_prints(cell) for cell in graph.grid]
    suffixes: dict[_Arm, list[tuple[tuple[str, str], ...]]] = {
        arm: _relevant(graph, [of_cell.get(arm, ()) for of_cell in prints])
        for arm in dict.fromkeys(arm for of_cell in prints for arm in of_cell)
    }
    named: dict[int, Mapping[_Arm, Names]] = {}
    for number, cell in enumerate(graph.grid):
        named[id(cell)] = {
            arm: _names(arm, values[number], suffixes.get((arm[0], None), [()] * len(graph.grid))[number])
            for arm, values in suffixes.items()
            if arm in prints[number]
        }
    return named


def _names(arm: _Arm, values: tuple[tuple[str, str], ...], of_base: tuple[tuple[str, str], ...]) -> Names:
    model, plain = arm
    return Names(
        model=f"{model}{_suffix(of_base)}",
        arm=None if plain is None else f"{plain}{_suffix(values)}",
        suffix=_suffix(values),
        axes=dict(values),
    )


def _suffix(values: tuple[tuple[str, str], ...]) -> str:
    return f"@{cell_name(values)}" if values else ""


def _prints(cell: CellGraph) -> dict[_Arm, tuple[str, ...]]:
    """By arm, the fingerprints of all that a cell trains and scores of it."""
    found: dict[_Arm, list[str]] = {}
    for run in cell.of(TRAIN):
        found.setdefault(_arm_of_run(run), []).append(run.fingerprint)
    for scores in cell.of(EVALUATE):
        found.setdefault(_arm_of_scores(scores), []).append(scores.fingerprint)
    return {arm: tuple(prints) for arm, prints in found.items()}


def _relevant(graph: StudyGraph, prints: list[tuple[str, ...]]) -> list[tuple[tuple[str, str], ...]]:
    """By cell, the axes on which what has these fingerprints depends, with their values.

    An axis matters if two cells that differ in it alone differ here. Where values still make the same, the first names it.
    """
    cells = [cell.cell.values for cell in graph.grid]
    matters = []
    for axis in range(len(cells[0])):
        seen: dict[tuple[tuple[str, str], ...], tuple[str, ...]] = {}
        matters.append(any(seen.setdefault(c[:axis] + c[axis + 1 :], p) != p for c, p in zip(cells, prints, strict=True)))
    first: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = {}
    for values, print_ in zip(cells, prints, strict=True):
        first.setdefault(print_, tuple(value for value, used in zip(values, matters, strict=True) if used))
    return [first[print_] for print_ in prints]
