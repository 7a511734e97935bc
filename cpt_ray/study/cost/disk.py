"""How much a study keeps on its disk, and what a root in a bucket is asked while runs train.

In: cells of the graph with their plans. Out: a `DiskPlan`. Sizes of text are worked out from the bytes that are read; what
several cells have counts once, because it is one folder. Before preparation all text is taken to be kept. Left out: the index
of held-out text, which has a limit, records, logs and MLflow's database, and what `prepare.keep_dropped` adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cpt_ray.edges.store import is_mirrored
from cpt_ray.plan.hours import groups_in_use
from cpt_ray.records import DiskPlan, MemoryPlan, ModelShape, RunSpec, TimePlan
from cpt_ray.study.cost.amounts import BYTES_PER_TOKEN, kept_bytes, scored_text, text_bytes
from cpt_ray.study.cost.shapes import model_shapes
from cpt_ray.study.graph import CellGraph
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.merges import MERGES
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.train import TRAIN

_CLEAN_SHARE = 0.6
"""Cleaned documents, compressed, with what is kept about them, over the bytes of their text (docs/log.md)."""
_INDEX_SHARE = 1.1
"""Shards with their index over the bytes of their tokens (docs/log.md)."""
_LINE_BYTES = 200
"""Of a document or item in the files of scores."""
_DRIVER, _GROUP, _WORKER = 36.0, 38.0, 2.0
"""Requests a minute: of a driver, of the workers of a group together, and of each of them; 78 with two workers
(benchmarks/results/scale.json, scale.requests_per_minute)."""


class CellCost(NamedTuple):
    """What is needed of a cell's plan."""

    graph: CellGraph
    memory: Iterable[MemoryPlan]


class Training(NamedTuple):
    """What asks a bucket while runs train."""

    time: TimePlan | None
    workers: int
    groups: int
    """That there is room for."""
    specs: tuple[RunSpec, ...]


def plan_disk(cells: Iterable[CellCost], training: Training) -> DiskPlan:
    """What the cells keep together.

    Args:
        cells: Each with the memory of its models, which has the sizes of their checkpoints and exports.
        training: The runs of all cells, each once.
    """
    found: dict[str, dict[object, float | None]] = {}
    mirrored = False
    for graph, memory in cells:
        for part, sizes in _folders(graph, {plan.model: plan for plan in memory}).items():
            found.setdefault(part, {}).update(sizes)
        mirrored = mirrored or is_mirrored(graph.root)

    def known(part: str) -> float:
        return sum(size or 0.0 for size in found[part].values())

    def all_known(part: str) -> float | None:
        return None if None in found[part].values() else known(part)

    return DiskPlan(
        bases_bytes=known("bases"),
        documents_bytes=all_known("documents"),
        shards_bytes=all_known("shards"),
        checkpoints_bytes=known("checkpoints"),
        exports_bytes=known("exports"),
        scores_bytes=known("scores"),
        text_bytes=all_known("text"),
        requests=_requests(training) if mirrored else None,
    )


def _folders(graph: CellGraph, plans: Mapping[str, MemoryPlan]) -> dict[str, dict[object, float | None]]:
    """By part, the folders of a cell and the bytes in each."""
    text, config, shapes = kept_bytes(graph), graph.config, model_shapes(graph)
    kept, runs = config.train.keep_checkpoints, [(node.folder, node.work.spec) for node in graph.of(TRAIN)]
    lines = graph.once(f"scored {config.evaluate} {graph.cell.name}", lambda: scored_text(graph)).lines
    return {
        "text": {graph.one(DOCUMENTS).folder: text_bytes(graph)},
        "bases": {node.folder: float(plans[node.name].export_bytes) for node in graph.of(MODELS)},
        "documents": {graph.one(DOCUMENTS).folder: None if text is None else _CLEAN_SHARE * text},
        "shards": {node.folder: _shard_bytes(text, shapes[node.name]) for node in graph.of(SHARDS)},
        "checkpoints": {
            folder: float((kept + len(spec.branch_tokens)) * plans[spec.model].checkpoint_bytes) for folder, spec in runs
        },
        "exports": {
            **{folder: float(_exports(spec) * plans[spec.model].export_bytes) for folder, spec in runs},
            **{node.folder: float(plans[node.work.model.name].export_bytes) for node in graph.of(MERGES)},
        },
        "scores": {node.folder: lines * _LINE_BYTES for node in graph.of(EVALUATE)},
    }


def _shard_bytes(text: float | None, shape: ModelShape) -> float | None:
    each = 2 if shape.vocabulary_size <= 1 << 16 else 4
    return None if text is None else _INDEX_SHARE * each * text / BYTES_PER_TOKEN


def _exports(spec: RunSpec) -> int:
    return (spec.budget_tokens is not None) + len(spec.trajectory_tokens) + len(spec.average_tokens)


def _requests(training: Training) -> float | None:
    """While runs train: heartbeats, metrics, the lease, and looks at what others wrote."""
    if training.time is None:
        return None
    seconds = next(stage.seconds or 0.0 for stage in training.time.stages if stage.stage == "train")
    groups = groups_in_use(training.groups, training.specs)
    return seconds / 60 * (_DRIVER + groups * (_GROUP + training.workers * _WORKER))
