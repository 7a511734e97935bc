"""The identity of a document, and how often the ids that a source gives to its documents repeat.

An identity is `SOURCE/TASK/RECORD`: the source's name, the number of the read task, and the number of the record among all that
the task yields, documents and rejections alike, both from 0. Read tasks depend only on the files and `prepare.unit_bytes`, so
an identity depends neither on the workers nor on what is dropped. Everything that joins documents joins on it; the source's own
id is a label. Memory: 12 bytes per id of a unit, or of a partition of the ids.

Guarantee: no two documents of an artifact have the same identity.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from cpt_ray.data.read.documents import content_id
from cpt_ray.data.words import seeded_uint64
from cpt_ray.records import RepeatedIds

ID_SCHEMA = pa.schema([("id", pa.uint64()), ("source", pa.int32())])
"""One row per document with an id of its own: a hash of source and id, and the source's place among the sources."""
_IDENTITY = re.compile(r"(?P<source>.+)/(?P<task>\d{5,})/(?P<record>\d+)", re.ASCII | re.DOTALL)


class Place(NamedTuple):
    """Where a document was read: the source, the number of the read task, and of the record in it."""

    source: str
    task: int
    record: int


def document_identity(source: str, task: int, record: int) -> str:
    """The identity of a document.

    Args:
        source: Name of the source.
        task: Number of the read task, from 0.
        record: Number of the record among all that the task yields, from 0.
    """
    return f"{source}/{task:05d}/{record}"


def place_of(identity: str) -> Place | None:
    """The place that an identity names; None for a text that is not an identity."""
    match = _IDENTITY.fullmatch(identity)
    return Place(match["source"], int(match["task"]), int(match["record"])) if match else None


def id_keys(documents: Iterable[tuple[str, str]], source: str, *, place: int) -> pa.Table:
    """Hash the ids that a source gave to its documents, to be counted where equal ones meet.

    Args:
        documents: Id and text of each document; one that is named by its content has no id of its own and is left out.
        source: Name of the source: the same id in two sources is two ids.
        place: The source's place among the sources.

    Returns:
        A table of `ID_SCHEMA`.
    """
    keys = [seeded_uint64("id", source, name) for name, text in documents if name != content_id(text)]
    return pa.table([pa.array(keys, type=pa.uint64()), pa.array([place] * len(keys), type=pa.int32())], schema=ID_SCHEMA)


def count_repeated_ids(keys: pa.Table, sources: Sequence[str]) -> dict[str, RepeatedIds]:
    """Count the ids that more than one document of a source has.

    Args:
        keys: Rows of `ID_SCHEMA`: all with the same hash, or none.
        sources: Names of the sources, in order.

    Returns:
        Counts by source, in the order of the sources; sources whose ids are all different are left out.
    """
    _, first, counts = np.unique(keys["id"].to_numpy(), return_index=True, return_counts=True)
    owners, counts = keys["source"].to_numpy()[first[counts > 1]], counts[counts > 1]
    return {
        name: RepeatedIds(ids=int((owners == place).sum()), documents=int(counts[owners == place].sum()))
        for place, name in enumerate(sources)
        if (owners == place).any()
    }
