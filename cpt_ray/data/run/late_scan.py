"""Worker task that scans an already packed unit for exams.

Combines the index of `decontaminate` with that of a shard; `pipeline` passes it to Ray Data. In: a clean unit and the index of
its shard. Out: `hits/`. The text scanned is the clean one: passages removed by `redact` may be found in it again. Memory: one
unit's documents, and the index of exam text once per process.

Guarantee: the full text of every document in the shard is scanned.
"""

from __future__ import annotations

import pyarrow.compute as pc

from cpt_ray.data.run.training_tasks import KeptUnit, document_key, kept_documents, load_exams, write_hits
from cpt_ray.data.run.units import UnitContext, finish_unit, read_columns
from cpt_ray.data.words import hash_words
from cpt_ray.records import ExamHit, UnitReport


class LateScanUnit(KeptUnit):
    """Scan the packed documents of a clean unit; `index` is in the `shards` input."""

    index: str
    exam_items: str


def late_scan_unit(task: LateScanUnit, context: UnitContext) -> UnitReport:
    """Write the exam items found in the packed documents of a unit."""
    rule = context.prepare.decontaminate
    exams = load_exams(str(context.file(task.exam_items)), rule.ngram_words, rule.min_match_ratio)
    column = read_columns(context.input("shards", task.index), columns=["identity"])["identity"]
    packed = set(pc.unique(column).to_pylist())
    hits: list[ExamHit] = []
    for row in kept_documents(task, context):
        if row["identity"] in packed:
            matches = exams.find(hash_words(row["text"]))
            hits += exams.describe(matches, source=task.source, document=document_key(row), text=row["text"])
    return finish_unit(task, context, "late_scan", {"hits": write_hits(task, context, hits)})
