"""Turn records into the rows of the page's tables and its key figures.

Guarantee: sums are computed here, once, and each ledger records whether it balances, so a page cannot show lost documents or
tokens without saying so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpt_ray.records import Amount, Delta, EvalRecord, ExamScore, HeldOutScore, RunEvent, ShardTable, StageReport, TrainingCost
from cpt_ray.report.contents import PlannedStates, ReportContents
from cpt_ray.report.wording import count, delta_digits, duration, integer, number, percent, signed, unit_of


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure: title, value, detail. `tone` is good, bad or plain; the words say the same."""

    title: str
    value: str
    detail: str
    note: str = ""
    tone: str = "plain"


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


@dataclass(frozen=True, slots=True)
class ExamRow:
    """One model on one exam."""

    run: str
    score: ExamScore
    annealed: bool


@dataclass(frozen=True, slots=True)
class WatchRow:
    """What a run spent besides its steps. Shares are of its total time: steps, checkpoints and held-out losses."""

    run: str
    cost: TrainingCost
    seconds: float
    data_wait: float
    checkpoint: float
    held_out: float
    planned: PlannedStates | None


@dataclass(frozen=True, slots=True)
class WarningRow:
    """A warning from workers of a run."""

    run: str
    kind: str
    text: str
    step: int
    """The first step with this warning."""
    workers: int
    """How many workers gave it."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One model on one held-out set."""

    run: str
    tokens_seen: int
    score: HeldOutScore
    annealed: bool


def funnel_rows(contents: ReportContents) -> dict[str, list[FunnelRow]]:
    """Stages by source, in the order in which they ran."""
    rows: dict[str, list[FunnelRow]] = {}
    for report in contents.funnel:
        lost = sum(report.dropped.values(), Amount())
        balanced = (
            report.input.documents == report.kept.documents + lost.documents
            and report.input.bytes == report.kept.bytes + lost.bytes + report.edited_bytes
        )
        share = report.kept.documents / report.input.documents if report.input.documents else 1.0
        rows.setdefault(report.source, []).append(FunnelRow(report, lost, share, balanced))
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


def tiles(contents: ReportContents) -> list[Tile]:
    """The key figures of the header, for the domain arm that saw the most tokens."""
    probed = any(delta.role == "probe" for delta in contents.comparison.deltas)
    outside = ("probe", "Probe") if probed else ("general", "General text")
    sets = {delta.set_name for delta in contents.comparison.deltas if delta.role == outside[0]}
    worst = " that did worst" if len(sets) > 1 else ""
    wanted = (
        ("domain", "base", "Domain, against the base"),
        ("domain", "control", "Domain, against the control arm"),
        (outside[0], "base", f"{outside[1]}{worst}, against the base"),
    )
    result = []
    for role, reference, title in wanted:
        delta = _headline(contents, role, reference)
        if delta is None:
            result.append(Tile(title, "not measured", "no such arm or set in this study"))
        else:
            result.append(_delta_tile(title, delta))
    paid, seen = contents.comparison.tokens_paid, contents.comparison.tokens_seen
    result.append(Tile("Tokens seen", count(seen), f"{integer(seen)} loss-bearing tokens by the model that saw the most"))
    result.append(
        Tile("Tokens paid", count(paid), f"{integer(paid)} trained on by all runs together; a shared trunk counts once")
    )
    how = "from start to end" if contents.wall_s is not None else "sum of the stages; concurrent stages count in full"
    result.append(Tile("Wall time", duration(contents.total_wall_s), how))
    return result


def _headline(contents: ReportContents, role: str, reference: str) -> Delta | None:
    candidates = [
        delta
        for delta in contents.comparison.deltas
        if delta.measure == "bits_per_byte"
        and delta.role == role
        and contents.role_of(delta.reference) == reference
        and contents.role_of(delta.subject) == "domain"
        and not contents.is_merged(delta.subject)
    ]

    def rank(delta: Delta) -> tuple[int, bool, bool, float]:
        run = contents.find_run(delta.subject)
        # A cell of several seeds ranks above its single seeds; of several general texts, the one that did worst comes first.
        worst = delta.loss_rank if role != "domain" else (False, 0.0)
        return (run.budget_tokens or run.tokens_seen if run else 0, run is not None and run.run != delta.subject, *worst)

    # max keeps the first of equals, so the study's order of models and sets decides.
    return max(candidates, key=rank, default=None)


def _delta_tile(title: str, delta: Delta) -> Tile:
    digits = delta_digits(delta)
    if delta.better is None:
        value, tone = f"not measurable ({signed(delta.difference, digits)})", "plain"
    else:
        word, tone = ("better", "good") if delta.better else ("worse", "bad")
        value = f"{number(abs(delta.difference), digits)} {word}"
    interval = delta.interval
    detail = (
        f"{unit_of(delta)} on {delta.set_name}: {number(delta.reference_value, digits)} \N{RIGHTWARDS ARROW} "
        f"{number(delta.subject_value, digits)} ({percent(delta.relative_percent)}); "
        f"difference {signed(delta.difference, digits)}, "
    )
    if interval is None:
        detail, kind = f"{detail}no interval", delta.missing
    else:
        low, high = signed(interval.low, digits), signed(interval.high, digits)
        detail, kind = f"{detail}{100 * interval.confidence:g} % interval {low} to {high}", interval.kind
    return Tile(title, value, detail, f"{delta.subject} against {delta.reference}. Interval: {kind}.", tone)


def held_out_deltas(contents: ReportContents) -> list[Delta]:
    """Differences on held-out text, domain first."""
    rows = [delta for delta in contents.comparison.deltas if delta.role != "exam"]
    return sorted(rows, key=lambda delta: delta.role != "domain")


def exam_deltas(contents: ReportContents) -> list[Delta]:
    """Differences on exams."""
    return [delta for delta in contents.comparison.deltas if delta.role == "exam"]


def exam_labels(evals: Sequence[EvalRecord]) -> dict[str, str]:
    """Task to the full label that must accompany its score."""
    return {exam.task: exam.label for record in evals for exam in record.exams}


def exam_rows(contents: ReportContents) -> dict[str, list[ExamRow]]:
    """Scores by exam."""
    hollow = {run.run for run in contents.runs if run.kind != "base" and not run.annealed}
    rows: dict[str, list[ExamRow]] = {}
    for record in contents.evals:
        for exam in record.exams:
            rows.setdefault(exam.task, []).append(ExamRow(record.run, exam, record.run not in hollow))
    return rows


def score_rows(contents: ReportContents) -> list[ScoreRow]:
    """Scores on held-out text, by set and part, then by tokens seen."""
    hollow = {run.run for run in contents.runs if run.kind != "base" and not run.annealed}
    rows = [
        ScoreRow(record.run, record.tokens_seen, score, record.run not in hollow)
        for record in contents.evals
        for score in record.held_out
    ]
    order = {key: i for i, key in enumerate(dict.fromkeys((r.score.source, r.score.part) for r in rows))}
    return sorted(rows, key=lambda r: (r.score.role != "domain", order[r.score.source, r.score.part], r.tokens_seen, r.run))


def watch_rows(contents: ReportContents) -> list[WatchRow]:
    """What each trained run spent besides its steps; a trajectory point is part of its parent."""
    rows = []
    for run in contents.runs:
        if run.training is None or run.kind == "trajectory":
            continue
        cost = run.training.cost
        seconds = cost.wall_s + cost.checkpoint_s + cost.held_out_s
        if seconds:
            parts = (cost.data_wait_s / seconds, cost.checkpoint_s / seconds, cost.held_out_s / seconds)
            rows.append(WatchRow(run.run, cost, seconds, *parts, contents.planned.get(run.model)))
    return rows


def warning_rows(contents: ReportContents) -> list[WarningRow]:
    """Warnings from workers, each text once per run."""
    rows: dict[tuple[str, str], list[RunEvent]] = {}
    for run, events in contents.warnings.items():
        for event in events:
            rows.setdefault((run, event.text), []).append(event)
    return [
        WarningRow(run, events[0].kind, text, min(event.step for event in events), len({event.rank for event in events}))
        for (run, text), events in rows.items()
    ]


def kernels(contents: ReportContents) -> list[tuple[str, str, str]]:
    """What computed the runs, as (attention, projections, loss); runs with the same are listed once."""
    last = [run.training.last for run in contents.runs if run.training is not None]
    return list(dict.fromkeys((attempt.kernel, attempt.projections, attempt.loss_kernel) for attempt in last))


def mfu_bases(contents: ReportContents) -> list[tuple[str, str]]:
    """How MFU was computed, as (peak, FLOPs); runs with the same basis are listed once."""
    trained = [run.training for run in contents.runs if run.training is not None]
    counted = [one.last for one in trained if one.cost.mfu is not None and one.last.peak_basis]
    return list(dict.fromkeys((attempt.peak_basis, attempt.flops_basis) for attempt in counted))
