"""Stages `derived` and `arms`: the shards of each derived source, and what the arms have in common.

A derived source has an artifact of its own for each model, so that a change of one neither packs its parent again nor trains
again an arm that does not draw it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cpt_ray.config.domains import root_of
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.rows.shards import COLUMNS, join_manifests, save_manifest
from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import ArmsRecord, Made, SelectionRecord, ShardManifest
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS, Text, data_job, prepare_settings
from cpt_ray.study.stages.filter.scores import SCORES, scores_name
from cpt_ray.study.stages.shards import SHARDS, verify_shards
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one


@dataclass(frozen=True)
class Deriving(Text):
    """A derived source, and the source that was read, from which it descends."""

    model: str
    source: SourceConfig
    root: str


@dataclass(frozen=True)
class Arms(Text):
    """The sources that each arm draws, and of each source the one that was read."""

    model: str
    arms: dict[str, frozenset[str]]
    roots: dict[str, str]


DerivedNode = Node[Deriving, ShardManifest]


def derived_name(model: str, source: str) -> str:
    """Name of the shards of a derived source for a model."""
    return f"{model}-{source}"


def shards_of_source(graph: Graph, model: str, source: SourceConfig) -> Node[Any, ShardManifest]:
    """The artifact that holds the shards of a source for a model."""
    return graph.one(SHARDS, model) if source.parent is None else graph.one(DERIVED, derived_name(model, source.name))


def joined_shards(shards: Node[Any, ShardManifest], derived: list[Node[Any, ShardManifest]]) -> Made[ShardManifest]:
    """A model's shards together with those of derived sources.

    Raises:
        ConfigError: If one of them is not packed yet.
    """
    return join_manifests(store.made(shards), [store.made(node) for node in derived])


def _plan_derived(graph: Graph) -> Iterator[Planned[Deriving]]:
    config = graph.config
    by_name = {source.name: source for source in config.sources}
    for model in config.models:
        for source in config.derived_sources:
            root = root_of(source, config.sources).name
            inputs: dict[str, Node[Any, Any] | str] = {
                "documents": graph.one(DOCUMENTS),
                "parent": shards_of_source(graph, model.name, by_name[str(source.parent)]),
                **{f"scores-{name}": graph.one(SCORES, scores_name(name, root)) for name in source.scored_by},
            }
            if source.like is not None:
                inputs["like"] = shards_of_source(graph, model.name, by_name[source.like])
            yield Planned(
                name=derived_name(model.name, source.name),
                stem=derived_name(graph.one(SHARDS, model.name).stem, source.name),
                inputs=inputs,
                settings={
                    "source": source.model_dump(mode="json", include={"name", "parent", "where", "sample", "quality_matched"}),
                    **prepare_settings(config.prepare, "seed", "pack"),
                },
                work=Deriving(config.read_sources, config.prepare, model.name, source, root),
            )


def _build_derived(node: DerivedNode, session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.filter.derive import Derivation, derive_source

    source = node.work.source
    made = Derivation(
        source=source,
        root=node.work.root,
        parent=store.made(node.input("parent")),
        documents=store.made(node.input("documents")),
        scores={name: store.made(node.input(f"scores-{name}")) for name in source.scored_by},
        like=store.made(node.input("like")) if source.like is not None else None,
    )
    manifest, selection = derive_source(job, made)
    write_atomic(node.folder / SelectionRecord.FILE, selection.to_json())
    save_manifest(node.folder / ShardManifest.FILE, manifest)


def _plan_arms(graph: Graph) -> Iterator[Planned[Arms]]:
    config = graph.config
    if len(config.arms) == 1 or not config.derived_sources:
        return
    model = config.models[0].name
    arms = {
        name: frozenset(source for mix in arm.mixes().values() for source, weight in mix.items() if weight)
        for name, arm in config.arms.items()
    }
    packed = [source for source in config.sources if source.is_packed]
    used = frozenset[str]().union(*arms.values())
    derived = [source for source in packed if source.parent is not None and source.name in used]
    yield Planned(
        name=config.study.name,
        inputs={
            "shards": graph.one(SHARDS, model),
            **{f"derived-{source.name}": shards_of_source(graph, model, source) for source in derived},
        },
        settings={"arms": {name: sorted(sources) for name, sources in arms.items()}},
        work=Arms(
            config.read_sources,
            config.prepare,
            model,
            arms,
            {source.name: root_of(source, config.sources).name for source in packed if source.name in used},
        ),
    )


def _build_arms(node: Node[Arms, ArmsRecord], session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.filter.derive import count_shared

    work = node.work
    shards = {
        name: store.made(node.input(f"derived-{name}" if f"derived-{name}" in node.inputs else "shards")) for name in work.roots
    }
    record = count_shared(job, work.model, shards, work.roots, work.arms)
    write_atomic(node.folder / ArmsRecord.FILE, record.to_json())


DERIVED = Stage[Deriving, ShardManifest](
    name="derived",
    version=1,
    verb="prepare",
    plan=_plan_derived,
    build=one_by_one(_build_derived),
    record=ShardManifest,
    files=("*.json", "*.arrow", "shards/*"),
    driver_files=("*.json", COLUMNS),
    verify=verify_shards,
)
ARMS = Stage[Arms, ArmsRecord](
    name="arms",
    version=1,
    verb="prepare",
    plan=_plan_arms,
    build=one_by_one(_build_arms),
    record=ArmsRecord,
    files=("*.json",),
)
