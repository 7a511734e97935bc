"""What `cpt-ray prepare` prints at the end: what each stage kept and dropped, and a profile of the text and its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cpt_ray.records import Amount, DocumentsRecord, DomainFindings, ExamHit, ShardManifest, StageReport, TaskScan
from cpt_ray.report.text.corpus import describe_exam_scans, describe_profile
from cpt_ray.report.text.domains import describe_domains
from cpt_ray.report.text.table import text_table


def render_preparation(
    documents: DocumentsRecord,
    manifest: ShardManifest,
    scans: Sequence[TaskScan],
    hits: Sequence[ExamHit],
    domains: DomainFindings,
) -> str:
    """Render the funnel of a model's shards, and what is known about their text."""
    rows = [row for report in manifest.reports for row in _funnel_rows(report)]
    header = ("stage", "source", "documents in", "kept", "dropped", "MB kept")
    lines = [
        text_table(header, rows, text_columns=2, rule=True),
        "",
        *describe_packing(manifest, [chosen.source for chosen in domains.selections]),
        *describe_encodings(documents),
        *describe_duplicates(documents),
        *describe_exam_scans(scans, hits),
        *describe_domains(domains),
        *describe_profile(documents, manifest.samples),
    ]
    return "\n".join(lines)


def describe_packing(manifest: ShardManifest, derived: Collection[str] = ()) -> list[str]:
    """What became of the tokens, as lines: the ledger of what was read, then how well each source's rows are filled.

    Args:
        manifest: The shards of all sources.
        derived: The derived sources, whose documents are also in the source that they are derived from.
    """
    ledger = manifest.shards
    read, again = ([manifest.of_source(name) for name in ledger.sources if (name in derived) is kind] for kind in (False, True))

    def total(column: str) -> int:
        return sum(table.total(column) for table in read)

    bos = f"+ {total('bos_tokens')} BOS tokens " if manifest.bos_id is not None else ""
    lines = [
        f"tokens: {total('tokenizer_tokens')} from the tokenizer "
        f"+ {total('separator_tokens')} separators {bos}= {total('tokens')} "
        f"in {total('rows')} rows of {manifest.sequence_length}; "
        f"{total('padding')} padding slots; {total('loss_tokens')} loss-bearing tokens"
    ]
    if again:
        tokens, rows = (sum(table.total(column) for table in again) for column in ("tokens", "rows"))
        lines.append(f"  chosen from these by derived sources, and packed again: {tokens} tokens in {rows} rows")
    if spelled := total("control_spellings"):
        lines.append(f"  {spelled} times a text spells a control token; it was encoded as text")
    for source in ledger.sources:
        shards = manifest.of_source(source)
        lines.append(
            f"  {source}: {100 * shards.padding_share:.3f} % padding; {shards.total('cut_documents')} of "
            f"{shards.total('documents')} documents cut; {shards.segments_per_row:.1f} documents or parts per row"
        )
    return lines


def describe_encodings(documents: DocumentsRecord) -> list[str]:
    """Text files by encoding, as lines; nothing of a source whose files are all UTF-8."""
    return [
        f"encodings of {source}: {', '.join(f'{count} files {name}' for name, count in counts.items())}"
        for source, counts in documents.encodings.items()
        if set(counts) != {"utf-8"}
    ]


def describe_duplicates(documents: DocumentsRecord) -> list[str]:
    """What duplicate removal grouped, as lines: the threshold, the component sizes, and the largest components."""
    found, threshold = documents.components, documents.near_duplicate_threshold
    rule = "exact duplicates only" if threshold is None else f"similarity at least {threshold:.3f}, (1/bands)^(1/rows)"
    sizes = ", ".join(f"{count} of {size} documents" for size, count in found.sizes.items()) or "none"
    lines = [f"duplicates: {rule}; {found.pairs_compared} pairs compared; components: {sizes}"]
    if found.documents_left:
        lines.append(
            f"  {found.documents_left} times a document in a crowded bucket was similar to none of the representatives "
            "it was compared with; more bands or rows spread such documents out"
        )
    for component in found.largest:
        quoted = "; ".join(
            f"{key.id} ({key.identity}: {' '.join(text.split())[:40]}...)"
            for key, text in zip(component.members, component.texts, strict=True)
        )
        lines.append(f"  {component.documents} documents, of which the first is kept: {quoted}")
    return lines


def _funnel_rows(report: StageReport) -> Iterable[tuple[str, ...]]:
    lost = Amount.total(report.dropped.values())
    kept = f"{report.kept.bytes / 1e6:.2f}"
    yield report.stage, report.source, str(report.input.documents), str(report.kept.documents), str(lost.documents), kept
    for reason, amount in sorted(report.dropped.items(), key=lambda item: -item[1].documents):
        if amount.documents:
            yield "", f"  {reason}", "", "", str(amount.documents), ""
