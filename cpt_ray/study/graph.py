"""What depends on what: every artifact of a study, derived from its config before anything runs.

    models -> shards -> train -> evaluate        sources -> documents -> held_out -> shards, evaluate, tokenizer -> models
    exams -> scan -> shards (decontamination); exams -> evaluate; shards, exams that came later -> late_scan
    documents, held_out, scan -> classifier -> scores -> yield; shards, scores -> derived -> train; shards, derived -> arms

Each stage declares in its module (`study/stages/`) what its artifacts depend on, so a change rebuilds exactly its dependents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.storage import FileHashes
from cpt_ray.edges.tracking.mirrored import database_of
from cpt_ray.records import Record
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.exams import EXAMS
from cpt_ray.study.stages.filter.classifier import CLASSIFIER
from cpt_ray.study.stages.filter.derived import ARMS, DERIVED
from cpt_ray.study.stages.filter.scores import SCORES, YIELD
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.late_scan import LATE_SCAN
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.scan import SCAN
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Node, Stage
from cpt_ray.study.stages.tokenizer import TOKENIZER
from cpt_ray.study.stages.train import TRAIN

STAGES: tuple[Stage[Any, Any], ...] = (
    *(EXAMS, SCAN, DOCUMENTS, HELD_OUT, TOKENIZER, MODELS, CLASSIFIER, SCORES),
    *(SHARDS, YIELD, DERIVED, ARMS, LATE_SCAN, TRAIN, EVALUATE),
)
"""All stages, inputs before dependents. A base that waits for none of them is imported first (`study.study`)."""

WorkT = TypeVar("WorkT")
RecordT = TypeVar("RecordT", bound=Record)


class StudyGraph:
    """All artifacts of a study, inputs before dependents.

    Args:
        config: The study.
        config_path: The file it was read from; relative paths may start there.
        stages: Stages in order; `STAGES` if none are given.

    Raises:
        CptRayError: If a source, a model file or the DeepSpeed JSON is missing or refused, or the root would be lost.
    """

    def __init__(self, config: StudyConfig, config_path: Path, stages: Sequence[Stage[Any, Any]] | None = None) -> None:
        self.config, self.config_path = config, config_path
        self.stages = STAGES if stages is None else tuple(stages)
        self.root = store.resolve_root(config.study.root)
        if config.tracking.uri is not None and (database := database_of(config.tracking.uri)) is not None:
            store.refuse_job_folder(
                database.resolve(), "tracking.uri", fix="give the database an absolute path, or leave it out"
            )
        self.hashes = FileHashes(self.root)
        self._nodes: dict[str, dict[str, Node[Any, Any]]] = {stage.name: {} for stage in self.stages}
        for stage in self.stages:
            for planned in stage.plan(self):  # one by one: a run's parent is an artifact of the same stage
                self._nodes[stage.name][planned.name] = store.locate(self.root, stage, planned)

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
