"""What a worker does to look for exams in a unit that is packed already.

Strings decontaminate's index and a shard's index together; `pipeline` hands it to Ray Data. In: a clean unit
and the index of its shard. Out: `hits/`. The text is the clean one: what `redact` took out may be found in it again.
Memory: one unit's documents, and the index of exam text once per process.

Guarantee: of every document that stands in the shard, all of the text is scanned.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpt_ray.data.run.training_tasks import DrawUnit, kept_documents, load_exams, write_hits
from cpt_ray.data.run.units import UnitContext, finish_unit
from cpt_ray.data.words import hash_words
from cpt_ray.records import ExamHit, UnitReport


class LateScanUnit(DrawUnit):
    """Scan what was packed of a clean unit; `index` lies in the `shards` input."""

    index: str
    exam_items: str


def late_scan_unit(task: LateScanUnit, context: UnitContext) -> UnitReport:
    """Write what the packed documents of a unit hold of exam items."""
    rule = context.prepare.decontaminate
    exams = load_exams(str(context.root / task.exam_items), rule.ngram_words, rule.min_match_ratio)
    column = pq.read_table(Path(context.inputs["shards"]) / task.index, columns=["document_id"])["document_id"]
    packed = set(pc.unique(column).to_pylist())
    hits: list[ExamHit] = []
    for row in kept_documents(task, context):
        if row["id"] in packed:
            matches = exams.find(hash_words(row["text"]))
            hits += exams.describe(matches, source=task.source, document=row["id"], text=row["text"])
    return finish_unit(task, context, "late_scan", {"hits": write_hits(task, context, hits)})
