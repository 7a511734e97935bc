"""Tables of everything that was scored and compared: an overview of models and arms, scores, differences, exams, merges.

In: the index of a study's records. Out: tables. A model whose learning rate has not decayed is said to be no budget.
"""

from __future__ import annotations

from dataclasses import replace

from cpt_ray.records import Delta, ExamScore, Interval
from cpt_ray.report.blocks import Cell, Table
from cpt_ray.report.index import Index
from cpt_ray.report.tables.results import base_cell, delta_cell, exam_note
from cpt_ray.report.wording import count, delta_digits, judgement, level, measure_name, number, percent, share, signed, unit_of

HOLLOW = "not annealed, never a budget"


def overview(index: Index) -> Table | None:
    """Every model and arm at its largest budget; None if there is only one."""
    if len(index.groups) < 2:
        return None
    rows: list[tuple[Cell | str | None, ...]] = []
    for group in index.groups:
        found = [index.difference(group, group.budgets[-1], name) for name, _ in index.sets]
        against = [index.difference(group, group.budgets[-1], name, reference="control") for name in index.domain_sets]
        cells = [
            None if delta is None else _overview_cell(delta, role) for delta, (_, role) in zip(found, index.sets, strict=True)
        ]
        base = next((delta for delta in found if delta is not None), None)
        change = [None if delta is None else _difference(delta) for delta in against]
        rows.append((index.label(group), count(group.budgets[-1]), None if base is None else base_cell(base), *cells, *change))
    sets = [f"{name} ({role})" for name, role in index.sets]
    domain = index.sets[0][0] if index.sets else ""
    header = (
        "model and arm",
        "budget",
        f"base on {domain}",
        *sets,
        *(f"{name}, against the control" for name in index.domain_sets),
    )
    lead = "Each at its largest budget, against its base: bits per byte, lower is better."
    return Table.of("overview", "All models and arms", header, rows, words=2, lead=lead)


def _overview_cell(delta: Delta, in_study: str) -> Cell:
    """A cell under a set's role in the study; where it has another one for this arm, that stands in it."""
    cell = delta_cell(delta)
    return cell if delta.role == in_study else replace(cell, small=(*cell.small, f"{delta.role} for this arm"))


def _difference(delta: Delta) -> Cell:
    cell = delta_cell(delta)
    return Cell(cell.small[0], cell.small[1:], cell.mark, cell.tone, raw=cell.raw)


def score_table(index: Index) -> Table:
    """Scores on held-out text, by set and part, then by tokens seen."""
    contents = index.contents
    found = [(record, score) for record in contents.evals for score in record.held_out]
    order = {key: i for i, key in enumerate(dict.fromkeys((score.source, score.part) for _, score in found))}
    found.sort(key=lambda x: (x[1].role != "domain", order[x[1].source, x[1].part], x[0].tokens_seen, x[0].run))
    one_tokenizer = contents.one_tokenizer
    rows = []
    for record, score in found:
        ends, more = score.bits_per_byte_interval, score.perplexity_interval
        bits = (f"{number(ends.low)} to {number(ends.high)}",) if ends else ()
        row: list[Cell | str | int | None] = [
            f"{score.source} ({score.role})", score.part, _model(index, record.run), record.tokens_seen,
            Cell(number(score.bits_per_byte), bits, strong=True, raw=score.bits_per_byte),
        ]  # fmt: skip
        if one_tokenizer:
            small = (f"{number(more.low, 2)} to {number(more.high, 2)}",) if more else ()
            row.append(Cell(number(score.perplexity, 2), small, raw=score.perplexity))
        row.append(
            Cell(f"{score.documents:,}", (f"{score.cut_documents:,} cut",) if score.cut_documents else (), raw=score.documents)
        )
        rows.append((*row, score.scored_bytes))
    header = (
        "set",
        "part",
        "model",
        "tokens seen",
        "bits per byte",
        *(("perplexity",) if one_tokenizer else ()),
        "documents",
        "scored bytes",
    )
    notes = []
    if not one_tokenizer:
        notes.append(
            "No perplexity: it is per token, and these models have different tokenizers. Bits per byte are comparable."
        )
    interval = next((score.bits_per_byte_interval for _, score in found if score.bits_per_byte_interval), None)
    if interval is not None:
        notes.append(
            f"Interval: {level(interval.confidence)}, {interval.kind}; none where there are too few documents for one."
        )
    if any(score.cut_documents for _, score in found):
        notes.append(
            "Cut: documents that go on after evaluate.document_tokens; only their beginning is scored, of every model the same."
        )
    return Table.of("scores", "Scores on held-out text", header, rows, words=3, notes=notes)


def _model(index: Index, run: str) -> Cell:
    record = index.runs.get(run)
    hollow = record is not None and record.kind != "base" and not record.annealed
    return Cell(index.name(run), (HOLLOW,) if hollow else ())


def delta_tables(index: Index) -> list[Table]:
    """Differences on held-out text, domain first, and on exams."""
    deltas = index.contents.comparison.deltas
    held_out = sorted((delta for delta in deltas if delta.role != "exam"), key=lambda delta: delta.role != "domain")
    exams = [delta for delta in deltas if delta.role == "exam"]
    lead = "Model minus reference, paired by document; for bits per byte, negative is better. Relative: to the reference."
    points = (
        "Model minus reference, paired by question. Accuracy in percentage points and margin in nats: positive is better. The "
        "perplexity of the correct letter as the logarithm of the ratio of two perplexities, in nats: negative is better."
    )
    found = [_deltas(index, "differences", "Differences on held-out text", held_out, lead)]
    return found + ([_deltas(index, "exam_differences", "Differences on exams", exams, points)] if exams else [])


def _deltas(index: Index, name: str, title: str, deltas: list[Delta], lead: str) -> Table:
    kinds = list(dict.fromkeys(delta.interval.kind for delta in deltas if delta.interval))
    rows = []
    for delta in deltas:
        digits = delta_digits(delta)
        ends: Cell | str = Cell("none", (delta.missing,) if delta.missing else ())
        if delta.interval is not None:
            words = f"{signed(delta.interval.low, digits)} to {signed(delta.interval.high, digits)}"
            ends = Cell(
                words,
                (delta.interval.kind,) if len(kinds) > 1 else (),
                raw={"low": delta.interval.low, "high": delta.interval.high},
            )
        role = "" if delta.role == "exam" else f" ({delta.role})"
        unseen = (f"below {number(delta.smallest_effect, digits)}",) if delta.better is None and delta.smallest_effect else ()
        judged = Cell(judgement(delta), unseen, tone="" if delta.better is None else "good" if delta.better else "bad")
        rows.append((
            Cell(f"{delta.set_name}{role}", (measure_name(delta),)), index.name(delta.subject), index.name(delta.reference),
            judged,
            Cell(number(delta.reference_value, digits), raw=delta.reference_value),
            Cell(number(delta.subject_value, digits), raw=delta.subject_value),
            Cell(signed(delta.difference, digits), (unit_of(delta),), strong=True, raw=delta.difference), ends,
            Cell(percent(delta.relative_percent), raw=delta.relative_percent), delta.items,
        ))  # fmt: skip
    header = (
        "set and measure",
        "model",
        "against",
        "judgment",
        "reference",
        "model",
        "difference",
        "interval",
        "relative",
        "items",
    )
    notes = (
        [f"Every interval: {level(next(d.interval.confidence for d in deltas if d.interval))}, {kinds[0]}."]
        if len(kinds) == 1
        else []
    )
    notes += ["Not measurable below: the difference that this design would have found four times out of five."]
    return Table.of(name, title, header, rows, words=4, lead=lead, notes=notes)


def exam_tables(index: Index) -> list[Table]:
    """Scores by exam."""
    by_task: dict[str, list[tuple[str, ExamScore]]] = {}
    for record in index.contents.evals:
        for exam in record.exams:
            by_task.setdefault(exam.task, []).append((record.run, exam))
    return [_exam(index, task, found) for task, found in by_task.items()]


def _exam(index: Index, task: str, found: list[tuple[str, ExamScore]]) -> Table:
    first = found[0][1]
    header = ["model", "items", "accuracy", "standard error", "length-normalized", "standard error", "margin, nats"]
    header += ["perplexity of the letter"] if first.letter_perplexity else []
    header += ["accuracy, all orders", "changes with the order"] if first.order_changes is not None else []
    header += ["validation half", "test half"] if first.halves else []
    rows = []
    for run, exam in found:
        row: list[Cell | str | int] = [
            _model(index, run), exam.items, _share(exam.accuracy, exam.accuracy_interval, strong=True),
            _share(exam.accuracy_stderr), _share(exam.accuracy_norm), _share(exam.accuracy_norm_stderr),
            _number(exam.margin, exam.margin_interval),
        ]  # fmt: skip
        row += [_number(exam.letter_perplexity, exam.letter_perplexity_interval)] if first.letter_perplexity else []
        row += [_share(exam.order_accuracy), _share(exam.order_changes)] if first.order_changes is not None else []
        halves = {half.half: half for half in exam.halves}
        for name in ("validation", "test") if first.halves else ():
            half = halves.get(name)
            row.append(
                Cell.of(None) if half is None else Cell(share(half.accuracy), (f"{half.items:,} items",), raw=half.accuracy)
            )
        rows.append(tuple(row))
    lead = f"{first.label} ({exam_note(first)})."
    return Table.of(f"exam_{task}", f"Exam {task}", header, rows, lead=lead)


def _share(value: float | None, interval: Interval | None = None, *, strong: bool = False) -> Cell:
    ends = (f"{share(interval.low)} to {share(interval.high)}",) if interval is not None else ()
    return Cell(share(value), ends, strong=strong, raw=value if value is not None else "")


def _number(value: float | None, interval: Interval | None = None) -> Cell:
    ends = (f"{number(interval.low, 2)} to {number(interval.high, 2)}",) if interval is not None else ()
    return Cell(number(value, 2), ends, raw=value if value is not None else "")


def merge_table(index: Index) -> Table | None:
    """Models made without training: the rule, and what of."""
    merges = [run for run in index.contents.runs if run.merge is not None]
    if not merges:
        return None
    rows = [(run.run, run.merge.rule if run.merge else "", str(run.merge)) for run in merges]
    lead = (
        "No tokens were paid for these models. They are scored like the others, and are in no curve, fit or verdict: a budget "
        "is what was trained."
    )
    return Table.of("merges", "Made without training", ("model", "rule", "made of"), rows, words=3, lead=lead)
