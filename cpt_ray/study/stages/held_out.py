"""Stage `held_out`: the validation and test set of each source, drawn once per study, before any arm."""

from __future__ import annotations

from collections.abc import Iterator

from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import HeldOutRecord
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS, Text, data_job, prepare_settings
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one


def _plan(graph: Graph) -> Iterator[Planned[Text]]:
    config = graph.config
    yield Planned(
        name=config.study.name,
        inputs={"documents": graph.one(DOCUMENTS)},
        settings=prepare_settings(config.prepare, "seed", "held_out"),
        work=Text(config.read_sources, config.prepare),
    )


def _build(node: Node[Text, HeldOutRecord], session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.run.pipeline import draw_held_out

    record = draw_held_out(job, store.made(node.input("documents")))
    write_atomic(node.folder / HeldOutRecord.FILE, record.to_json())


HELD_OUT = Stage[Text, HeldOutRecord](
    name="held_out",
    version=3,
    verb="prepare",
    plan=_plan,
    build=one_by_one(_build),
    record=HeldOutRecord,
    files=("**/*.json*", "**/*.npy", "**/*.parquet"),
    driver_files=("*.json",),
)
