"""What depends on what: every artifact of a study, derived from its config before anything runs.

    models -> shards -> train -> merges -> evaluate
    sources -> documents -> held_out -> shards, evaluate, tokenizer -> models
    exams -> scan -> shards (decontamination); exams -> evaluate; shards, exams that came later -> late_scan
    documents, held_out, scan -> classifier -> scores -> yield; shards, scores -> derived -> train; shards, derived -> arms

Each stage declares in its module (`study/stages/`) what its artifacts depend on, so a change rebuilds exactly its dependents.
A study with axes has a graph per cell; what two cells derive with the same name and fingerprint is one artifact of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from cpt_ray.config.cells import Cell, choose_cells, study_cells
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.source_files import shown, would_list
from cpt_ray.edges.storage import FileHashes
from cpt_ray.edges.store import address
from cpt_ray.edges.tracking.mirrored import database_of
from cpt_ray.errors import ConfigError
from cpt_ray.records import Artifact, Record
from cpt_ray.study import store
from cpt_ray.study.inputs import known_name
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.exams import EXAMS
from cpt_ray.study.stages.filter.classifier import CLASSIFIER
from cpt_ray.study.stages.filter.derived import ARMS, DERIVED
from cpt_ray.study.stages.filter.scores import SCORES, YIELD
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.merges import INSTRUCT, MERGES
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.scans.late_scan import LATE_SCAN
from cpt_ray.study.stages.scans.scan import SCAN
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import InputT, Node, Stage
from cpt_ray.study.stages.tokenizer import TOKENIZER
from cpt_ray.study.stages.train import TRAIN

STAGES: tuple[Stage[Any, Any], ...] = (
    *(EXAMS, SCAN, DOCUMENTS, HELD_OUT, TOKENIZER, MODELS, INSTRUCT, CLASSIFIER, SCORES),
    *(SHARDS, YIELD, DERIVED, ARMS, LATE_SCAN, TRAIN, MERGES, EVALUATE),
)
"""All stages, inputs before dependents. A base that waits for none of them is imported first (`study.study`)."""

WorkT = TypeVar("WorkT")
RecordT = TypeVar("RecordT", bound=Record)
ValueT = TypeVar("ValueT")


class Chosen(NamedTuple):
    """Which cells of a grid a command is about; see `config.cells.choose_cells`."""

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


ALL = Chosen()
"""Every cell."""


class CellGraph:
    """All artifacts of one cell of a study, inputs before dependents.

    Args:
        cell: The cell.
        study: The graph of the study, which its cells share.

    Raises:
        CptRayError: If a source, a model file or the DeepSpeed JSON is missing or refused.
    """

    def __init__(self, cell: Cell, study: StudyGraph) -> None:
        self.cell, self.config, self.config_path = cell, cell.config, study.config_path
        self.hashes, self.root = study.hashes, study.root
        self._study = study
        self._nodes: dict[str, dict[str, Node[Any, Any]]] = {stage.name: {} for stage in study.stages}
        for stage in study.stages:
            for planned in stage.plan(self):  # one by one: a run's parent is an artifact of the same stage
                self._nodes[stage.name][planned.name] = study.shared(store.locate(study.root, stage, planned, study.found))

    def once(self, key: str, look_up: Callable[[], ValueT]) -> ValueT:
        """What `look_up` returns, looked up once for all cells; `key` says what it is."""
        return self._study.once(key, look_up)

    def input(self, key: str, look_up: Callable[[], InputT]) -> InputT:
        """What files outside the root are, once for all cells; see `stages.stage.Graph`."""
        return self._study.input(key, look_up)

    def of(self, stage: Stage[WorkT, RecordT]) -> list[Node[WorkT, RecordT]]:
        """All artifacts of a stage, in order; empty if the study needs none or does not have the stage."""
        return list(self._nodes.get(stage.name, {}).values())

    def one(self, stage: Stage[WorkT, RecordT], name: str | None = None) -> Node[WorkT, RecordT]:
        """The artifact of that name, or the only one.

        Raises:
            KeyError: If the study has no such artifact.
        """
        nodes = self._nodes[stage.name]
        if name is None and len(nodes) != 1:
            raise KeyError(f"stage {stage.name} has {len(nodes)} artifacts, not one")
        return next(iter(nodes.values())) if name is None else nodes[name]


class StudyGraph:
    """All artifacts of a study, inputs before dependents, each once however many cells have it.

    Args:
        config: The study.
        config_path: The file it was read from; relative paths may start there.
        stages: Stages in order; `STAGES` if none are given.
        chosen: The cells to work on; all if nothing is chosen.
        known: What is known of files outside the root, which are then not looked up; see `study.inputs.read_known`.

    Raises:
        CptRayError: If a source, a model file or the DeepSpeed JSON is missing or refused, the root would be lost or was
            written by a newer cpt-ray, the axes make too many cells or a cell that is no valid study, or two cells have the
            same artifacts.
    """

    def __init__(
        self,
        config: StudyConfig,
        config_path: Path,
        stages: Sequence[Stage[Any, Any]] | None = None,
        chosen: Chosen = ALL,
        known: Mapping[str, str | None] | None = None,
    ) -> None:
        self.config, self.config_path = config, config_path
        self.stages = STAGES if stages is None else tuple(stages)
        # The local disk of the nodes that a study ran on is not that of a machine that has only its root.
        self.root = store.resolve_root(config.study.root, config.runtime.scratch if known is None else None)
        store.require_known_format(self.root)
        if config.tracking.uri is not None and (database := database_of(config.tracking.uri)) is not None:
            store.refuse_job_folder(
                database.resolve(), "tracking.uri", fix="give the database an absolute path, or leave it out"
            )
        self.hashes = FileHashes(self.root)
        self.found: dict[Path, Artifact] = {}
        """The artifacts that were found complete: a graph serves one command, which looks at each once."""
        self.inputs: dict[str, str | None] = {}
        """What was found of files outside the root, by `known_name`."""
        self._once: dict[str, Any] = {}
        self._inputs_known = known or {}
        self._shared: dict[tuple[str, str, str], Node[Any, Any]] = {}
        cells = study_cells(config)
        picked = {cell.name for cell in (choose_cells(cells, *chosen) if any(chosen) else cells)}
        self.grid = tuple(CellGraph(cell, self) for cell in cells)
        """The cells of the whole grid, whatever is chosen: names of runs depend on it."""
        _require_different(self.grid)
        if known is None:
            _require_apart([cell.config for cell in cells], address(self.root))
        self.cells = tuple(graph for graph in self.grid if graph.cell.name in picked)
        """The chosen cells."""

    def once(self, key: str, look_up: Callable[[], ValueT]) -> ValueT:
        """What `look_up` returns, looked up once for all cells; `key` says what it is."""
        if key not in self._once:
            self._once[key] = look_up()
        found: ValueT = self._once[key]
        return found

    def input(self, key: str, look_up: Callable[[], InputT]) -> InputT:
        """What files outside the root are: looked up once, unless it is known already."""
        name = known_name(key)
        if name not in self.inputs:
            self.inputs[name] = self._inputs_known[name] if name in self._inputs_known else look_up()
        return cast(InputT, self.inputs[name])

    def shared(self, node: Node[Any, Any]) -> Node[Any, Any]:
        """The artifact that another cell has with this name and fingerprint, or this one."""
        return self._shared.setdefault((node.stage.name, node.name, node.fingerprint), node)

    def of(self, stage: Stage[WorkT, RecordT]) -> list[Node[WorkT, RecordT]]:
        """All artifacts of a stage, cell by cell, each once."""
        return list(dict.fromkeys(node for cell in self.cells for node in cell.of(stage)))

    def one(self, stage: Stage[WorkT, RecordT], name: str | None = None) -> Node[WorkT, RecordT]:
        """The artifact of that name, or the only one, in the first cell.

        Raises:
            KeyError: If the study has no such artifact.
        """
        return self.cells[0].one(stage, name)

    def all(self, *verbs: str) -> list[Node[Any, Any]]:
        """Every artifact that the verbs build, inputs before dependents; of all verbs if none is named.

        What several models share is listed once.
        """
        return distinct(node for stage in self.stages if not verbs or stage.verb in verbs for node in self.of(stage))


def distinct(nodes: Iterable[Node[Any, Any]]) -> list[Node[Any, Any]]:
    """The first of all artifacts that share a folder, in order."""
    first: dict[Path, Node[Any, Any]] = {}
    for node in nodes:
        first.setdefault(node.folder, node)
    return list(first.values())


def _require_apart(configs: Iterable[StudyConfig], root: str) -> None:
    """Refuse a source that would read what the study writes.

    Raises:
        ConfigError: Naming source and root.
    """
    paths = {path: source.name for config in configs for source in config.read_sources for path in source.path}
    for path, name in paths.items():
        if would_list(path, root):
            raise ConfigError(
                f"source {name}: {shown(path)} contains study.root, {root}: the study would read its own files as text",
                fix="set study.root to a folder outside of it, or move the text to a folder of its own",
            )


def _require_different(cells: Sequence[CellGraph]) -> None:
    """Refuse two cells that would make the same models and scores.

    Raises:
        ConfigError: Naming the two.
    """
    seen: dict[tuple[str, ...], Cell] = {}
    for graph in cells:
        key = (*(run.fingerprint for run in graph.of(TRAIN)), *(scores.fingerprint for scores in graph.of(EVALUATE)))
        same = seen.setdefault(key, graph.cell)
        if key and same is not graph.cell:
            axes = [axis for (axis, one), (_, other) in zip(same.values, graph.cell.values, strict=True) if one != other]
            raise ConfigError(
                f"cells {same.name} and {graph.cell.name} are the same study: what axes.{' and axes.'.join(axes)} sets changes "
                "no run and no score",
                fix=f"remove axes.{axes[0]}, or sweep a key that changes a result",
            )
