"""The table that a page opens with: each held-out set and exam of a model and arm, at the base, at each budget, at the control.

In: an index of differences. Out: one table per model and domain arm. Guarantee: an arrow stands only where a difference is
measurable (`Delta.better`); the difference is that over all seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cpt_ray.records import Delta, ExamScore, Measure
from cpt_ray.report.blocks import Cell, Table
from cpt_ray.report.index import Group, Index
from cpt_ray.report.wording import count, delta_digits, level, number, share, signed, unit_of

_MEASURES: dict[Measure, str] = {
    "letter_nats": "perplexity of the letter, lower is better; differences: log of the ratio, nats",
    "margin_nats": "margin: log p of the correct choice minus that of the best other one, nats",
}
"""What a row of an exam shows, where it is not accuracy."""
MOST_TABLES = 30
"""Models and arms with a table of their own; of further ones, the overview and the JSON twin tell."""
MOST_BESIDE = 6
"""Columns of a table that figures have room beside on a laptop; a wider one stands below them."""


def result_tables(index: Index) -> list[Table]:
    """One table per model and domain arm, the first open."""
    exams, failures = _exams(index), _failures(index)
    return [_table(index, group, place, exams, failures) for place, group in enumerate(index.groups)]


def short_labels(index: Index) -> dict[str, str]:
    """Exam to its full label, where that says more than its name: said once, in a legend."""
    found = {exam.task: exam.label for record in index.contents.evals for exam in record.exams}
    return {task: label for task, label in found.items() if label != task}


def _table(
    index: Index,
    group: Group,
    place: int,
    exams: Sequence[tuple[str, Measure, str]],
    failures: Mapping[tuple[object, ...], Cell],
) -> Table:
    control = index.control_of(group)
    budgets = control.budgets if control is not None else ()
    # The control of the largest budget that both have: what the last column of the arm is compared with.
    common = [budget for budget in group.budgets if budget in budgets]
    last = control if control is not None and common else None
    columns = [(group, budget) for budget in group.budgets] + ([(last, common[-1])] if last is not None else [])
    rows = []
    in_study = dict(index.sets)
    for name, role in index.sets_of(group):
        found = [index.difference(one, budget, name) for one, budget in columns]
        rows.append((Cell(name, (_role_words(role, in_study[name]),)), *_cells(found)))
    for task, measure, words in exams:
        cells = _cells([index.difference(one, budget, task, measure) for one, budget in columns])
        places = [(group.model, None, None), *((one.model, one.arm, budget) for one, budget in columns)]
        cells = [failures.get((*place, task), cell) for place, cell in zip(places, cells, strict=True)]
        rows.append((Cell(task, (words,)), *cells))
    header = ("", "base", *(count(budget) for budget in group.budgets))
    if last is not None:
        header += (f"{last.arm if last.arm == 'control' else f'control {last.arm}'}, {count(common[-1])}",)
    notes = [_legend(index, columns)] if place == 0 else []
    title = f"Results of {index.label(group)}" if len(index.groups) > 1 else ""
    return Table.of(f"results_{group.model}_{group.arm}", title, header, rows, notes=notes, fold=place > 0)


def _cells(found: Sequence[Delta | None]) -> list[Cell | None]:
    """The base's value, then a cell per difference."""
    known = next((delta for delta in found if delta is not None), None)
    return [None if known is None else base_cell(known), *(None if delta is None else delta_cell(delta) for delta in found)]


def _failures(index: Index) -> dict[tuple[object, ...], Cell]:
    """What stands for an exam that could not be scored: by model, arm, budget and exam."""
    return {
        (record.model, record.arm, record.budget_tokens, one.task): Cell("failed:", (one.reason,), raw=f"failed: {one.reason}")
        for record in index.contents.evals
        for one in record.failed
    }


def base_cell(delta: Delta) -> Cell:
    """The value that a difference is measured from."""
    return Cell(_value(delta.reference_value, delta), strong=True, raw=delta.reference_value)


def delta_cell(delta: Delta) -> Cell:
    """A model's value, its difference with the interval, and an arrow where it is measurable."""
    digits = delta_digits(delta)
    ends = "no interval"
    if delta.interval is not None:
        ends = f"{signed(delta.interval.low, digits)} to {signed(delta.interval.high, digits)}"
    mark, tone = "", ""
    if delta.better is not None:
        arrow = "\N{DOWNWARDS ARROW}" if delta.difference < 0 else "\N{UPWARDS ARROW}"
        mark, tone = f"{arrow} {'better' if delta.better else 'worse'}", "good" if delta.better else "bad"
    raw: dict[str, object] = {
        "value": delta.subject_value, "difference": delta.difference, "better": delta.better,
        "low": delta.interval.low if delta.interval else None, "high": delta.interval.high if delta.interval else None,
    }  # fmt: skip
    small: tuple[str, ...] = (signed(delta.difference, digits), ends)
    if delta.unsettled:
        small += (f"Holm p = {number(delta.adjusted_p_value)}",)
    return Cell(_value(delta.subject_value, delta), small, mark, "good" if tone == "good" else "bad" if tone else "", True, raw)


def _value(value: float, delta: Delta) -> str:
    if delta.measure == "letter_nats":
        return number(math.exp(value), 2)
    return number(value, delta_digits(delta)) + ("\N{NO-BREAK SPACE}%" if unit_of(delta) == "points" else "")


def _role_words(role: str, in_study: str) -> str:
    """The role of a set for an arm, which may be another one than in the study."""
    if role == "probe":
        return "probe: the domain of another arm" if in_study == "domain" else "probe: no arm trains on it"
    return role


def _exams(index: Index) -> list[tuple[str, Measure, str]]:
    """Exams in order of suites, the domain's first, by accuracy; exams of one's own by the measures that move sooner, too.

    Each with its measure and the words below its name.
    """
    exams = {exam.task: exam for record in index.contents.evals for exam in record.exams}
    order = {"domain": 0, None: 1, "general": 2}
    rows: list[tuple[str, Measure, str]] = []
    for exam in sorted(exams.values(), key=lambda exam: order.get(exam.suite, 1)):
        measures: list[Measure] = ["accuracy_points"]
        measures += ["letter_nats"] if exam.letter_perplexity is not None else []
        measures += ["margin_nats"] if exam.style is not None and exam.margin is not None else []
        rows += [(exam.task, measure, _MEASURES.get(measure) or _exam_words(exam)) for measure in measures]
    failed = dict.fromkeys(one.task for record in index.contents.evals for one in record.failed if one.task not in exams)
    return rows + [(task, "accuracy_points", "exam") for task in failed]


def _exam_words(exam: ExamScore) -> str:
    parts = [f"{exam.suite} exam" if exam.suite else "exam", f"chance {share(exam.chance, 0)}" if exam.chance else ""]
    return ", ".join(filter(None, parts))


def _legend(index: Index, columns: Sequence[tuple[Group, int]]) -> str:
    """How to read a cell."""
    found = [index.difference(one, budget, name) for one, budget in columns for name, _ in index.sets]
    known = next((delta for delta in found if delta is not None and delta.interval is not None), None)
    text = "Bits per byte on held-out text, lower is better; accuracy in percent. Below each value: the difference to the base"
    if known is not None and known.interval is not None:
        text += f", and its interval ({level(known.interval.confidence)}, {known.interval.kind})"
    text += ". An arrow: measurable, all sets judged together (Holm)"
    judged = [delta for delta in found if delta is not None]
    if any("Holm p" in line for delta in judged for line in delta_cell(delta).small):
        text += "; where an interval without 0 has none, the p-value of that judgment stands below"
    return f"{text}."


def exam_note(exam: ExamScore) -> str:
    """What an exam's score is of."""
    parts = [f"{exam.style} form" if exam.style else "", f"{exam.few_shot} examples" if exam.few_shot else ""]
    parts += [f"{exam.groups} groups" if exam.groups else "", f"chance is {share(exam.chance)}"]
    parts += [f"{exam.cut_items} prompts cut at evaluate.exam_context" if exam.cut_items else ""]
    return ", ".join(filter(None, parts))
