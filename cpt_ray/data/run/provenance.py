"""Where a document came from: the raw file behind the text in a row.

Used by `cpt-ray trace`. The name of a unit and a finished `documents` artifact determine which raw files the unit was read
from; these are read again, and documents are found by id. Memory: one document.

Guarantee: every file named currently contains a document with that id.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.read import ReadTask, plan_reads, read_documents
from cpt_ray.data.run.units import unit_report
from cpt_ray.records import Document


def find_files(
    documents_folder: Path, source: SourceConfig, prepare: PrepareConfig, *, unit: str, document_ids: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Find the raw files that contain documents of a unit.

    Args:
        documents_folder: The finished artifact.
        source: The unit's source.
        prepare: The settings of the artifact.
        unit: Name of the unit, `SOURCE-NNNNN`.
        document_ids: Ids to look for.

    Returns:
        Files by id, in order; several if ids repeat, none if no file contains the id anymore.
    """
    task = _read_task(documents_folder, source, prepare.unit_bytes, unit)
    found: dict[str, dict[str, None]] = {name: {} for name in document_ids}
    for part in task.parts:
        for item in read_documents(task.model_copy(update={"parts": (part,)}), source, max_bytes=prepare.clean.max_bytes):
            if isinstance(item, Document) and item.id in found:
                found[item.id][part.path] = None
    return {name: tuple(files) for name, files in found.items()}


def _read_task(documents_folder: Path, source: SourceConfig, unit_bytes: int, unit: str) -> ReadTask:
    """The task that read a unit; units are numbered consecutively across the tasks of a source."""
    left = int(unit.rsplit("-", 1)[1])
    tasks = plan_reads(source, unit_bytes)
    for task in tasks:
        report = unit_report(documents_folder, "read", f"{source.name}-read-{task.index:05d}")
        left -= len(report.outputs["raw"])
        if left < 0:
            return task
    raise ValueError(f"unit {unit}: source {source.name} was read into fewer units")
