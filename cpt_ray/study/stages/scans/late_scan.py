"""Stage `late_scan`: exams that were added later, looked up in the packed rows; nothing is removed or repacked."""

from __future__ import annotations

from collections.abc import Iterator

from cpt_ray.records import ExamItem, Record
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS, Text, data_job, prepare_settings
from cpt_ray.study.stages.scans.scan import SCAN, late_name
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one


def _plan(graph: Graph) -> Iterator[Planned[Text]]:
    config = graph.config
    for items in graph.of(SCAN):
        if items.name == late_name(graph):
            for shards in graph.of(SHARDS):
                yield Planned(
                    name=shards.name,
                    stem=shards.stem,
                    inputs={"documents": graph.one(DOCUMENTS), "shards": shards, "exams": items},
                    settings=prepare_settings(config.prepare, "decontaminate"),
                    work=Text(config.read_sources, config.prepare),
                )


def _build(node: Node[Text, Record], session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.run.pipeline import scan_packed

    documents, shards = store.made(node.input("documents")), store.made(node.input("shards"))
    scan_packed(job, documents, shards, node.input("exams").folder / ExamItem.FILE)


LATE_SCAN = Stage[Text, Record](
    name="late_scan", version=2, verb="prepare", plan=_plan, build=one_by_one(_build), record=None, files=("**/*.json*",)
)
