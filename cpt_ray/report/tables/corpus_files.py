"""What preparation found in the text, as CSV and JSON files that MLflow stores with a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from cpt_ray.records import DocumentsRecord, StageReport


def corpus_tables(documents: DocumentsRecord, funnel: Sequence[StageReport]) -> dict[str, str]:
    """Files for MLflow, by name: the funnel and the samples of dropped documents as CSV, the profile as JSON."""
    rows: list[tuple[object, ...]] = []
    for report in funnel:
        amounts = {"in": report.input, "kept": report.kept, **{f"dropped: {k}": v for k, v in report.dropped.items()}}
        rows += [(report.source, report.stage, what, amount.documents, amount.bytes) for what, amount in amounts.items()]
    keys = ("stage", "source", "reason", "identity", "id", "text")
    return {
        "funnel.csv": _csv(("source", "stage", "what", "documents", "bytes"), rows),
        "dropped_samples.csv": _csv(keys, [tuple(sample.get(key, "") for key in keys) for sample in documents.samples]),
        "profile.json": documents.profile.to_json(),
    }


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()
