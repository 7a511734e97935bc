"""Stage `documents`: the text of all sources, read and cleaned, with duplicates identified."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.read import check_inputs, source_files
from cpt_ray.edges.ray_runtime import working_labels
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import CptRayError
from cpt_ray.records import DocumentsRecord
from cpt_ray.study.inputs import source_fingerprint
from cpt_ray.study.live.lines import StageProgress
from cpt_ray.study.stages.stage import Checked, Graph, Node, Planned, Session, Stage, one_by_one

if TYPE_CHECKING:
    from cpt_ray.data.run.pipeline import DataJob


@dataclass(frozen=True)
class Text:
    """The sources and preparation settings; shared by the stages between raw files and shards."""

    sources: tuple[SourceConfig, ...]
    prepare: PrepareConfig


DocumentsNode = Node[Text, DocumentsRecord]


def prepare_settings(prepare: PrepareConfig, *keys: str) -> dict[str, object]:
    """Some keys of the `prepare` section, as values for a fingerprint."""
    # The tasks to scan for are in the fingerprint of stage `scan`.
    values = prepare.model_dump(mode="json", exclude={"decontaminate": {"tasks"}})
    return {key: values[key] for key in keys}


def data_job(text: Text, folder: Path, session: Session) -> DataJob:
    """The job that builds one artifact; starts Ray, or with `runtime.kind: local` processes of this machine."""
    pool = session.unit_pool()
    from cpt_ray.data.run.pipeline import DataJob

    progress = StageProgress(session.console)
    workers = session.runtime.units_at_once
    labels = working_labels(session.runtime, session.runtime.prepare_labels) if pool is None else {}
    return DataJob(text.sources, text.prepare, folder, num_workers=workers, progress=progress, pool=pool, labels=labels)


def _plan(graph: Graph) -> Iterator[Planned[Text]]:
    config = graph.config
    yield Planned(
        name=config.study.name,
        inputs={
            source.name: graph.input(f"source {source.model_dump_json()}", functools.partial(source_fingerprint, source))
            for source in config.read_sources
        },
        settings={
            "sources": [s.model_dump(mode="json", exclude={"license", "path", "dataset"}) for s in config.read_sources],
            **prepare_settings(config.prepare, "unit_bytes", "seed", "clean", "near_duplicates"),
        },
        work=Text(config.read_sources, config.prepare),
    )


def _build(node: DocumentsNode, session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.run.pipeline import prepare_documents

    write_atomic(node.folder / DocumentsRecord.FILE, prepare_documents(job).to_json())


def _check_inputs(node: DocumentsNode) -> None:
    """Reject documents whose raw files have changed since they were read."""
    for source in node.work.sources:
        check_inputs(node.folder, source)


def _verify(node: DocumentsNode) -> Iterator[Checked]:
    for source in node.work.sources:
        yield _verify_raw_files(node, source)


def _verify_raw_files(node: DocumentsNode, source: SourceConfig) -> Checked:
    """Hash the raw files of a source; where the artifact holds no hash of them, compare versions."""
    try:
        files = source_files(source)[1]
        check_inputs(node.folder, source, deep=True)
    except CptRayError as error:
        return Checked(f"raw files of {source.name}", "as they are now", (error,), is_input=True)
    size = sum(file.size_bytes for file in files)
    return Checked(f"raw files of {source.name}", f"{len(files)} files, {size / 1e6:.1f} MB", (), is_input=True)


DOCUMENTS = Stage[Text, DocumentsRecord](
    name="documents",
    version=4,
    verb="prepare",
    plan=_plan,
    build=one_by_one(_build),
    record=DocumentsRecord,
    files=("**/*.parquet", "**/*.json"),
    reuse_check=_check_inputs,
    verify=_verify,
)
