"""Stage `classifier`: each classifier of the study, trained or loaded, calibrated, and measured on held-out examples."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.edges.storage import FileHashes, write_atomic
from cpt_ray.errors import ConfigError
from cpt_ray.records import ClassifierRecord, ExamItem
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS, Text, data_job, prepare_settings
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.scans.scan import SCAN, early_name
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one


@dataclass(frozen=True)
class Filtering(Text):
    """Text, and a classifier of it."""

    classifier: ClassifierConfig


ClassifierNode = Node[Filtering, ClassifierRecord]


def _plan(graph: Graph) -> Iterator[Planned[Filtering]]:
    config = graph.config
    for classifier in config.classifiers:
        inputs: dict[str, Node[Any, Any] | str] = {"documents": graph.one(DOCUMENTS), "held_out": graph.one(HELD_OUT)}
        for scan in graph.of(SCAN):
            if scan.name == early_name(graph):
                inputs["exams"] = scan
        if classifier.path is not None:
            look_up = functools.partial(_model_fingerprint, classifier, graph.hashes)
            inputs["model"] = graph.input(f"classifier {classifier.model_dump_json()}", look_up)
        yield Planned(
            name=classifier.name,
            inputs=inputs,
            settings={
                "classifier": classifier.model_dump(mode="json", exclude={"path"}),
                **prepare_settings(config.prepare, "seed", "decontaminate"),
            },
            work=Filtering(config.read_sources, config.prepare, classifier),
        )


def _model_fingerprint(classifier: ClassifierConfig, hashes: FileHashes) -> str:
    """Content of a model's files; of a folder, those at its top."""
    path = Path(str(classifier.path)).expanduser()
    files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
    if not all(file.is_file() for file in files) or not files:
        raise ConfigError(
            f"classifier {classifier.name}: {path} does not exist, or is an empty folder",
            fix=f"set classifiers.{classifier.name}.path to the file or folder of the model",
        )
    return store.fingerprint([(file.name if len(files) > 1 else "", hashes.of(file)) for file in files])


def _build(node: ClassifierNode, session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.filter.classifiers import train_classifier

    items = node.input("exams").folder / ExamItem.FILE if "exams" in node.inputs else None
    documents, held_out = store.made(node.input("documents")), store.made(node.input("held_out"))
    record = train_classifier(job, documents, held_out, node.work.classifier, items)
    write_atomic(node.folder / ClassifierRecord.FILE, record.to_json())


CLASSIFIER = Stage[Filtering, ClassifierRecord](
    name="classifier",
    version=1,
    verb="prepare",
    plan=_plan,
    build=one_by_one(_build),
    record=ClassifierRecord,
    files=("*.json", "weights/*", "test/*", "fitted/*"),
)
