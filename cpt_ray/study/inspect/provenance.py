"""Where a document came from: the raw file behind the text in a row.

Used by `cpt-ray trace`. An identity names the read task of its document and the record in it; the task is planned and read
again. Memory: one document.

Guarantee: the file named currently holds, at the record that the identity names, a document with the id that is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.identity import place_of
from cpt_ray.data.read.plan import ReadTask, plan_reads
from cpt_ray.data.read.reading import read_documents
from cpt_ray.records import Document, DocumentKey


def find_files(source: SourceConfig, prepare: PrepareConfig, documents: Collection[DocumentKey]) -> dict[str, str]:
    """Find the raw files that documents of a source were read from.

    Args:
        source: The source.
        prepare: The settings of the artifact that the documents are in.
        documents: Identity and id of each.

    Returns:
        The file of each identity; identities whose record is not there anymore, or has another id, are left out.
    """
    wanted: dict[int, dict[int, DocumentKey]] = {}
    for key in documents:
        place = place_of(key.identity)
        if place is not None and place.source == source.name:
            wanted.setdefault(place.task, {})[place.record] = key
    found: dict[str, str] = {}
    for task in plan_reads(source, prepare.unit_bytes):
        places = wanted.get(task.index, {})
        for record, (path, name) in enumerate(_records(task, source, prepare) if places else ()):
            if record in places and places[record].id == name:
                found[places[record].identity] = path
            if record >= max(places):
                break
    return found


def _records(task: ReadTask, source: SourceConfig, prepare: PrepareConfig) -> Iterator[tuple[str, str | None]]:
    """The file of each record of a task, and its id if it is a document."""
    for part in task.parts:
        for item in read_documents(task.model_copy(update={"parts": (part,)}), source, max_bytes=prepare.clean.max_bytes):
            yield part.path, item.id if isinstance(item, Document) else None
