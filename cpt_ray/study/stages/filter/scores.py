"""Stages `scores` and `yield`: the score of every document of a source, and what each threshold would find.

Scores depend on text and classifier only. Thresholds belong to the yield and to derived sources: another one scores nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cpt_ray.config.domains import root_of
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import ScoresRecord, YieldRecord
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS, Text, data_job
from cpt_ray.study.stages.filter.classifier import CLASSIFIER, Filtering
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one


@dataclass(frozen=True)
class Scoring(Filtering):
    """A source to score."""

    source: str


@dataclass(frozen=True)
class Yielding(Text):
    """The thresholds that derived sources use."""

    used: tuple[float, ...]


def scores_name(classifier: str, source: str) -> str:
    """Name of the scores of a source."""
    return f"{classifier}-{source}"


def scored_sources(config: StudyConfig) -> list[tuple[str, str]]:
    """Classifier and source of all scores that a study needs.

    A classifier that no derived source names yet scores the general sources, so that a threshold can be chosen from its yield.
    """
    pairs = {
        (name, root_of(source, config.sources).name): None for source in config.derived_sources for name in source.scored_by
    }
    idle = [one.name for one in config.classifiers if one.name not in {name for name, _ in pairs}]
    general = [source.name for source in config.read_sources if source.role == "general"]
    return [*pairs, *((name, source) for name in idle for source in general)]


def _plan_scores(graph: Graph) -> Iterator[Planned[Scoring]]:
    config = graph.config
    classifiers = {classifier.name: classifier for classifier in config.classifiers}
    for name, source in scored_sources(config):
        yield Planned(
            name=scores_name(name, source),
            inputs={"documents": graph.one(DOCUMENTS), "classifier": graph.one(CLASSIFIER, name)},
            settings={"source": source},
            work=Scoring(config.read_sources, config.prepare, classifiers[name], source),
        )


def _build_scores(node: Node[Scoring, ScoresRecord], session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.filter.classifiers import score_source

    documents, trained = store.made(node.input("documents")), store.made(node.input("classifier"))
    record = score_source(job, documents, trained, node.work.classifier, node.work.source)
    write_atomic(node.folder / ScoresRecord.FILE, record.to_json())


def _plan_yield(graph: Graph) -> Iterator[Planned[Yielding]]:
    config = graph.config
    for name, source in scored_sources(config):
        used = {
            condition.threshold
            for derived in config.derived_sources
            for condition in derived.conditions
            if condition.classifier == name and root_of(derived, config.sources).name == source
        }
        yield Planned(
            name=scores_name(name, source),
            inputs={
                "scores": graph.one(SCORES, scores_name(name, source)),
                "shards": graph.one(SHARDS, config.models[0].name),
                "classifier": graph.one(CLASSIFIER, name),
            },
            settings={"used": sorted(used)},
            work=Yielding(config.read_sources, config.prepare, tuple(sorted(used))),
        )


def _build_yield(node: Node[Yielding, YieldRecord], session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.filter.classifiers import measure_yield

    scores, shards, trained = (store.made(node.input(name)) for name in ("scores", "shards", "classifier"))
    record = measure_yield(job, scores, shards, trained, node.work.used)
    write_atomic(node.folder / YieldRecord.FILE, record.to_json())


SCORES = Stage[Scoring, ScoresRecord](
    name="scores",
    version=1,
    verb="prepare",
    plan=_plan_scores,
    build=one_by_one(_build_scores),
    record=ScoresRecord,
    files=("*.json", "scores/*"),
)
YIELD = Stage[Yielding, YieldRecord](
    name="yield",
    version=1,
    verb="prepare",
    plan=_plan_yield,
    build=one_by_one(_build_yield),
    record=YieldRecord,
    files=("*.json",),
)
