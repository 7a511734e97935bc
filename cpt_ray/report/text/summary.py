"""What `cpt-ray compare` and `cpt-ray run` print at the end: the scores, the verdict, and every paired difference."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

from cpt_ray.config.values import format_count
from cpt_ray.records import Comparison, Delta, EvalRecord, HeldOutScore
from cpt_ray.report.text.answers import render_answers
from cpt_ray.report.text.table import text_table
from cpt_ray.report.wording import judgement


def render_summary(
    comparison: Comparison,
    evals: Sequence[EvalRecord],
    *,
    not_annealed: Collection[str],
    isolated: bool,
    merged: Collection[str] = (),
) -> str:
    """Render the scores of base, budgets and control, and the verdict.

    Args:
        comparison: What the study found.
        evals: All scores, base first.
        not_annealed: Names of trajectory points among them.
        isolated: Whether packed documents were isolated from each other.
        merged: Names of merges among them.
    """
    sets = [(score.source, score.part) for score in evals[0].held_out if score.part == "test"]
    exams = dict.fromkeys(exam.task for record in evals for exam in record.exams)
    exams |= dict.fromkeys(one.task for record in evals for one in record.failed)
    header = ("model", "tokens", *(f"{source} bits/byte" for source, _ in sets), *exams)
    rows = [
        (
            record.run + (" *" if record.run in not_annealed else " +" if record.run in merged else ""),
            format_count(record.tokens_seen),
            *(_score(_find(record, key)) for key in sets),
            *(_exam(record, task) for task in exams),
        )
        for record in evals
    ]
    labels = sorted({f"{exam.task}: {exam.label}" for record in evals for exam in record.exams})
    labels += [
        f"{score.source} ({score.part}): {score.cut_documents} of {score.documents} documents go on after "
        "evaluate.document_tokens; their beginning is scored"
        for score in evals[0].held_out
        if score.cut_documents
    ]
    tokens = (
        f"tokens seen: {format_count(comparison.tokens_seen)} by the model that saw the most; "
        f"tokens paid: {format_count(comparison.tokens_paid)} by all runs together"
    )
    labels += ["* not annealed: its learning rate has not decayed, so it is not a budget"] if not_annealed else []
    labels += ["+ made without training: no tokens were paid for it, and it is not a budget"] if merged else []
    marks = [] if isolated else ["isolation: none: packed documents see each other in every figure above"]
    return "\n".join(
        [
            "",
            text_table(header, rows, text_columns=2, rule=True),
            *labels,
            *marks,
            tokens,
            "",
            *([one.headline for one in comparison.conclusions] or [comparison.headline]),
            "",
            *(one.verdict for one in comparison.conclusions),
            *comparison.notes,
            render_answers(comparison.answers),
            "",
        ]
    )


def render_deltas(deltas: Sequence[Delta]) -> str:
    """Render paired differences as plain text."""
    header = ("subject", "reference", "set", "measure", "difference", "interval", "relative", "better")
    return text_table(header, [_delta_row(delta) for delta in deltas], text_columns=2, rule=True)


def _find(record: EvalRecord, key: tuple[str, str]) -> HeldOutScore:
    return next(score for score in record.held_out if (score.source, score.part) == key)


def _score(score: HeldOutScore) -> str:
    interval = score.bits_per_byte_interval
    return f"{score.bits_per_byte:.4f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else "")


def _exam(record: EvalRecord, task: str) -> str:
    """Accuracy and standard error, or why there is none; the notes have the whole reason."""
    scores = {exam.task: f"{100 * exam.accuracy:.1f} ± {100 * exam.accuracy_stderr:.1f} %" for exam in record.exams}
    failures = {one.task: textwrap.shorten(f"failed: {one.reason}", 40, placeholder=" ...") for one in record.failed}
    return scores.get(task) or failures.get(task, "-")


def _delta_row(delta: Delta) -> tuple[str, ...]:
    interval = f"[{delta.interval.low:+.4f}, {delta.interval.high:+.4f}]" if delta.interval else "none"
    return (
        delta.subject,
        delta.reference,
        delta.set_name,
        delta.measure,
        f"{delta.difference:+.4f}",
        interval,
        "" if delta.relative_percent is None else f"{delta.relative_percent:+.2f} %",
        judgement(delta),
    )
