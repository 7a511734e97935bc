"""Tables of the text: the funnel, the token ledger, held-out sets, exams in the text, samples, words of the domain.

In: `ReportContents`. Guarantee: sums are computed here, once, and each ledger records whether it balances, so a page cannot
show lost documents or tokens without saying so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpt_ray.records import Amount, ShardTable, StageReport
from cpt_ray.report.blocks import Cell, Table
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.wording import byte_size, integer, number, share

MOST_HITS = 50
LOST = "NO: something was lost"


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """One stage of one source; `balanced` is whether in = kept + dropped (+ edited, for bytes)."""

    report: StageReport
    lost: Amount
    kept_share: float
    balanced: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """The tokens of one source, summed over its shards."""

    source: str
    shards: int
    documents: int
    cut_documents: int
    rows: int
    tokenizer_tokens: int
    added_tokens: int
    """Separators and BOS tokens."""
    tokens: int
    padding: int
    padding_share: float
    slots: int
    segments: int
    segments_per_row: float
    loss_tokens: int
    balanced: bool


def funnel_rows(contents: ReportContents) -> dict[str, list[FunnelRow]]:
    """Stages by source, in the order in which they ran."""
    rows: dict[str, list[FunnelRow]] = {}
    for report in contents.funnel:
        lost = Amount.total(report.dropped.values())
        balanced = (
            report.input.documents == report.kept.documents + lost.documents
            and report.input.bytes == report.kept.bytes + lost.bytes + report.edited_bytes
        )
        kept = report.kept.documents / report.input.documents if report.input.documents else 1.0
        rows.setdefault(report.source, []).append(FunnelRow(report, lost, kept, balanced))
    return rows


def ledgers(contents: ReportContents) -> list[Ledger]:
    """The token ledger of each source."""
    manifest = contents.manifest
    return [_ledger(source, manifest.of_source(source), manifest.sequence_length) for source in manifest.shards.sources]


def _ledger(source: str, shards: ShardTable, sequence_length: int) -> Ledger:
    total = shards.total
    slots = total("rows") * sequence_length
    added = total("separator_tokens") + total("bos_tokens")
    balanced = (
        total("tokenizer_tokens") + added == total("tokens")
        and slots == total("tokens") + total("padding")
        and total("loss_tokens") == total("tokens") - total("segments")
    )
    return Ledger(
        source=source,
        shards=len(shards),
        documents=total("documents"),
        cut_documents=total("cut_documents"),
        rows=total("rows"),
        tokenizer_tokens=total("tokenizer_tokens"),
        added_tokens=added,
        tokens=total("tokens"),
        padding=total("padding"),
        padding_share=shards.padding_share,
        slots=slots,
        segments=total("segments"),
        segments_per_row=shards.segments_per_row,
        loss_tokens=total("loss_tokens"),
        balanced=balanced,
    )


def _balance(balanced: bool) -> Cell:
    return Cell("yes" if balanced else LOST, tone="" if balanced else "bad", raw=balanced)


def funnel_tables(contents: ReportContents) -> list[Table]:
    """The funnel of each source."""
    header = (
        "stage", "adds up", "dropped, by reason", "documents in", "= kept", "+ dropped", "bytes in", "= kept", "+ dropped",
        "+ removed by edits",
    )  # fmt: skip
    return [
        Table.of(f"funnel_{source}", f"Source {source}", header, [_stage(row) for row in rows], words=3)
        for source, rows in funnel_rows(contents).items()
    ]


def _stage(row: FunnelRow) -> tuple[Cell | str | int, ...]:
    r = row.report
    dropped = tuple(f"{why} {integer(lost.documents)} ({byte_size(lost.bytes)})" for why, lost in r.dropped.items())
    return (
        r.stage, _balance(row.balanced), Cell("" if dropped else "none", dropped), r.input.documents,
        Cell(integer(r.kept.documents), (share(row.kept_share),), strong=True, raw=r.kept.documents), row.lost.documents,
        r.input.bytes, Cell(integer(r.kept.bytes), strong=True, raw=r.kept.bytes), row.lost.bytes, r.edited_bytes,
    )  # fmt: skip


def ledger_table(contents: ReportContents) -> Table:
    """The token ledger."""
    manifest = contents.manifest
    bos = " and BOS tokens" if manifest.bos_id is not None else ""
    lead = (
        f"Shard tokens = tokenizer tokens + separators{bos}. Row slots = shard tokens + padding. Loss tokens = shard tokens "
        "\N{MINUS SIGN} segments: the first token of a segment has no label. Rows hold "
        f"{integer(manifest.sequence_length)} tokens; packed neighbors count as separate segments."
    )
    header = (
        "source", "adds up", "documents", "tokenizer tokens", "+ separators", "= shard tokens", "+ padding", "= row slots",
        "segments", "loss tokens", "rows",
    )  # fmt: skip
    rows = [
        (
            l.source, _balance(l.balanced), Cell(integer(l.documents), (f"{integer(l.cut_documents)} cut",), raw=l.documents),
            l.tokenizer_tokens, l.added_tokens, l.tokens,
            Cell(integer(l.padding), (f"{100 * l.padding_share:.3f} %",), raw=l.padding), l.slots,
            Cell(integer(l.segments), (f"{l.segments_per_row:.1f} a row",), raw=l.segments), l.loss_tokens,
            Cell(integer(l.rows), (f"{integer(l.shards)} shards",), raw=l.rows),
        )
        for l in ledgers(contents)  # noqa: E741
    ]  # fmt: skip
    return Table.of("ledger", "Token ledger", header, rows, words=2, lead=lead)


def held_out_table(contents: ReportContents) -> Table:
    """The held-out sets."""
    rows = [(one.source, str(one.role), one.part, one.documents, one.bytes) for one in contents.held_out]
    return Table.of("held_out", "Held-out sets", ("source", "role", "part", "documents", "bytes"), rows, words=3)


def exam_scan_tables(contents: ReportContents) -> list[Table]:
    """What was found of exams in the training text, and the matches."""
    if not contents.scans:
        return []
    lead = (
        "An item counts as found if a run of its words occurs in a document, ignoring case and punctuation. Items too short to "
        "be distinguished from ordinary language are not scanned for."
    )
    rows = []
    for s in contents.scans:
        late = "already packed: they are trained on" if s.late else "removed"
        fate = Cell(late if s.items_found else number(None), tone="bad" if s.late and s.items_found else "")
        rows.append((
            s.task, fate, s.items, s.scanned, s.too_short_to_scan, s.items_found, s.items_found_by_answer, s.documents_found
        ))  # fmt: skip
    header = ("exam", "which were", "items", "scanned for", "too short", "found", "by answer alone", "in documents")
    tables = [Table.of("exams_in_text", "Exams in the training text", header, rows, words=2, lead=lead)]
    hits = contents.exam_hits
    if hits:
        shown = f"Matches ({len(hits)}{f', {MOST_HITS} shown' if len(hits) > MOST_HITS else ''})"
        found = [
            (h.task, h.item, h.part, h.source, f"{h.document} ({h.identity})", h.matched, h.words, share(h.ratio, 0))
            for h in hits[:MOST_HITS]
        ]
        names = ("exam", "item", "part", "source", "document", "text", "words", "share of the part")
        tables.append(Table.of("exam_hits", shown, names, found, words=6, fold=True))
    return tables


def text_tables(contents: ReportContents) -> list[Table]:
    """Languages and redaction, words of the domain, samples of what was dropped."""
    tables = []
    if contents.languages or contents.redacted:
        found = [
            (source, _counts(counts), _counts(contents.redacted.get(source, {})) or "nothing")
            for source, counts in contents.languages.items()
        ]
        columns = ("source", "documents by language", "redacted")
        tables.append(Table.of("languages", "Languages and redaction", columns, found, words=3))
    profile = contents.profile
    if profile.terms:
        lead = (
            "Words and phrases of domain text against general text, by z, the log-odds ratio with an informative Dirichlet "
            "prior divided by its standard deviation (Monroe, Colaresi and Quinn 2008), counted in "
            f"{integer(profile.domain_words)} and {integer(profile.background_words)} words of seeded samples of documents."
        )
        words = [
            (
                t.text, Cell(number(t.z, 1), strong=True, raw=t.z), t.domain, round(1e6 * t.domain / profile.domain_words),
                t.background, round(1e6 * t.background / profile.background_words),
            )
            for t in profile.terms
        ]  # fmt: skip
        header = ("words", "z", "in domain text", "per million", "in general text", "per million")
        tables.append(Table.of("terms", "What sets the domain apart", header, words, lead=lead, fold=True))
    if contents.samples:
        keys = tuple(contents.samples[0])
        title = f"Samples of dropped documents ({len(contents.samples)}), by source and rule"
        samples = [tuple(str(sample.get(key, "")) for key in keys) for sample in contents.samples]
        tables.append(Table.of("dropped_samples", title, keys, samples, words=len(keys), fold=True))
    return tables


def text_notes(contents: ReportContents) -> list[str]:
    """Invisible characters, and ids that repeat."""
    notes = [f"Invisible characters removed from {source}: {_counts(counts)}." for source, counts in contents.invisible.items()]
    notes += [
        f"Ids of {source}: {integer(found.ids)} repeat, on {integer(found.documents)} documents; identities tell these apart."
        for source, found in contents.repeated_ids.items()
    ]
    return notes


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {integer(value)}" for name, value in counts.items())
