"""Tables as files that MLflow stores with a study: its results, and what preparation found in the text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from cpt_ray.records import Comparison, DocumentsRecord, StageReport
from cpt_ray.report.wording import judgement


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


def results_csv(comparison: Comparison) -> str:
    """Every difference of a study as CSV, unrounded, and every exam that could not be scored."""
    what = ("subject", "reference", "set", "role", "measure", "subject_value", "reference_value", "difference")
    judged = ("low", "high", "confidence", "adjusted_p_value", "items", "seeds", "judgement")
    rows: list[tuple[object, ...]] = [
        (
            delta.subject, delta.reference, delta.set_name, delta.role, delta.measure,
            delta.subject_value, delta.reference_value, delta.difference,
            *((delta.interval.low, delta.interval.high, delta.interval.confidence) if delta.interval else ("", "", "")),
            delta.adjusted_p_value, delta.items, delta.seeds, judgement(delta),
        )
        for delta in comparison.deltas
    ]  # fmt: skip
    between = ("",) * (len(what) + len(judged) - 6)
    rows += [(one.run, "", one.task, "exam", "", *between, f"failed: {one.reason}") for one in comparison.failed]
    return _csv((*what, *judged), rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()
