"""What preparation found in the text: languages, redactions, lengths, n-grams typical of the domain, exam items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cpt_ray.records import DocumentsRecord, ExamHit, Histogram, TaskScan
from cpt_ray.report.text.table import text_table

_QUOTED = 60
_PRINTED_TERMS = 12
_QUANTILES = (0.1, 0.5, 0.9)


def describe_profile(documents: DocumentsRecord, packed: Sequence[dict[str, str]] = ()) -> list[str]:
    """Languages, redactions, length and repetition, n-grams typical of the domain, a dropped document per source and rule."""
    lines = [
        f"languages of {source}: {_counts(counts)}"
        for source, counts in documents.languages.items()
        if set(counts) != {"unknown"}
    ]
    lines += [f"redacted in {source}: {_counts(counts)}" for source, counts in documents.redacted.items()]
    lines += [
        f"invisible characters removed from {source}: {_counts(counts)}" for source, counts in documents.invisible.items()
    ]
    lines += [
        f"ids of {source}: {found.ids} repeat, on {found.documents} documents; identities tell these apart"
        for source, found in documents.repeated_ids.items()
    ]
    rows = [
        row for source in dict.fromkeys(h.source for h in documents.profile.histograms) for row in _quantiles(documents, source)
    ]
    lines += [
        "",
        text_table(
            ("source", "documents", "bytes: 10 %", "50 %", "90 %", "repetition: 10 %", "50 %", "90 %"), rows, text_columns=2
        ),
    ]
    if documents.profile.terms:
        terms = ", ".join(f"{term.text!r} ({term.z:.0f})" for term in documents.profile.terms[:_PRINTED_TERMS])
        lines += ["", f"n-grams of the domain against general text (z of the log-odds): {terms}"]
    samples = _one_each([*documents.samples, *packed])
    if samples:
        lines += [
            "",
            "examples of dropped documents:",
            text_table(("source", "rule", "identity", "id", "text"), samples, text_columns=5),
        ]
    return lines


def describe_exam_scans(scans: Sequence[TaskScan], hits: Sequence[ExamHit]) -> list[str]:
    """What was found of each exam in the training text, and the longest match of each."""
    lines = []
    for scan in scans:
        outcome = "ALREADY PACKED, so they are trained on" if scan.late else "removed"
        found = f"{scan.items_found} items in {scan.documents_found} documents {outcome}" if scan.items_found else "none found"
        short = f"; {scan.too_short_to_scan} too short to scan for" if scan.too_short_to_scan else ""
        lines.append(f"exam {scan.task}: {scan.scanned} of {scan.items} items scanned for, {found}{short}")
        of_task = [hit for hit in hits if hit.task == scan.task]
        if of_task:
            hit = max(of_task, key=lambda hit: hit.words)
            quoted = " ".join(hit.matched.split())[:_QUOTED]
            lines.append(
                f"  {hit.words} words of item {hit.item} in document {hit.document} ({hit.identity}) of {hit.source}: {quoted}"
            )
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _quantiles(documents: DocumentsRecord, source: str) -> Iterable[tuple[str, ...]]:
    for when in ("read", "kept"):
        found = {h.measure: h for h in documents.profile.histograms if h.source == source and h.when == when}
        cells = [_size(at_quantile(found["bytes"], q)) for q in _QUANTILES]
        cells += [f"{100 * at_quantile(found['repetition'], q):.0f} %" for q in _QUANTILES]
        yield (source, f"{sum(found['bytes'].counts)} {when}", *cells)


def _size(value: float) -> str:
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.0f}k"


def at_quantile(histogram: Histogram, quantile: float) -> float:
    """The value below which a share `quantile` of the documents falls, interpolated linearly within a bin."""
    total, below = sum(histogram.counts), 0
    for place, count in enumerate(histogram.counts):
        if count and below + count >= quantile * total:
            low, high = histogram.edges[place : place + 2]
            return low + (high - low) * (quantile * total - below) / count
        below += count
    return 0.0


def _one_each(samples: Sequence[dict[str, str]]) -> list[tuple[str, ...]]:
    first: dict[tuple[str, str], dict[str, str]] = {}
    for sample in samples:
        first.setdefault((sample["source"], sample["reason"]), sample)
    return [
        (source, reason, one["identity"], one["id"][:24], " ".join(one["text"].split())[:_QUOTED])
        for (source, reason), one in first.items()
    ]
