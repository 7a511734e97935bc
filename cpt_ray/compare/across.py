"""Compare runs of different studies: on the held-out sets and exams that both were scored on, item by item.

In: the scores of two runs, over their seeds, with the settings that they were scored with. Out: differences by the rule of
`compare.deltas`, judged together, and a reason for everything that could not be paired. Guarantee: two scores are subtracted
only if they are of the same items, over the same bytes, under the same settings; nothing is left out without a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from cpt_ray.compare.deltas import Cell, Scored, cell_deltas, documents_of, items_of, reported_sets
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.evaluate.per_item import ScoredDocument, ScoredItem
from cpt_ray.records import Delta

PERPLEXITY = "perplexity: their tokenizers differ, and a perplexity is per token; bits per byte is compared"
_TEXT_SETTINGS = ("context", "precision")
_EXAM_SETTINGS = ("exam_context", "precision")
_ASKED = ("style", "few_shot", "metric", "version")
_OVER_ORDERS = ("order_accuracy_points", "order_changes_points")
_JUDGED = ("confidence", "subsets", "seed")


@dataclass(frozen=True)
class Contender:
    """A run to compare, or all seeds of one.

    Attributes:
        label: What the user calls it: root and run.
        cell: Its scores.
        settings: What it was scored with: the keys of `evaluate` and `compare`.
        questions: By exam of its study, a hash of the questions and of the examples before them.
    """

    label: str
    cell: Cell
    settings: Mapping[str, Any]
    questions: Mapping[str, str] = field(default_factory=dict)


class Pairing(NamedTuple):
    """What two runs share, and what they do not."""

    subject: str
    reference: str
    deltas: tuple[Delta, ...]
    refused: tuple[str, ...]
    """What is not compared, and why."""


def judged_by(one: Contender) -> CompareConfig:
    """The rule of a run's own study."""
    return CompareConfig.model_validate({key: one.settings[key] for key in _JUDGED if key in one.settings})


def pair(subject: Contender, reference: Contender) -> Pairing:
    """Compare two runs on everything that they share, by the rule of the reference's study.

    A base has no seeds, and is the reference of a pair.
    """
    if subject.cell.arm is None and reference.cell.arm is not None:
        subject, reference = reference, subject
    refused: list[str] = []
    if judged_by(subject) != judged_by(reference):
        refused.append(f"nothing for this: the compare section of {reference.label} is used, that of {subject.label} differs")
    seeds = {scored.record.seed for scored in subject.cell.scored} & {scored.record.seed for scored in reference.cell.scored}
    if reference.cell.arm is not None and not seeds:
        return Pairing(subject.label, reference.label, (), ("everything: the two have no seed in common",))
    sets = _shared(subject, reference, _set_names, _why_not_set, refused)
    exams = _shared(subject, reference, _exam_names, _why_not_exam, refused)
    other_tokens = any(_tokens_differ(subject, reference, name) for name in sets)
    refused += [PERPLEXITY] if other_tokens else []
    orders = {name: tuple(_permutations(one, name) for one in (subject, reference)) for name in exams}
    other_orders = {name for name, (ours, theirs) in orders.items() if ours != theirs}
    refused += [
        f"{name}, over all orders: permutations is {orders[name][0]} and {orders[name][1]}" for name in sorted(other_orders)
    ]
    if not sets and not exams:
        return Pairing(subject.label, reference.label, (), tuple(refused))
    ours, theirs = (_only(one.cell, sets, exams) for one in (subject, reference))
    found = cell_deltas(ours, theirs, judged_by(reference), same_tokens=False)
    kept = tuple(
        delta
        for delta in found.overall
        # The letter's perplexity is over the whole vocabulary.
        if not (other_tokens and delta.measure == "letter_nats")
        and not (delta.measure in _OVER_ORDERS and delta.set_name in other_orders)
    )
    return Pairing(subject.label, reference.label, kept, tuple(refused))


def _shared(
    subject: Contender,
    reference: Contender,
    names: Callable[[Contender], list[str]],
    why_not: Callable[[Contender, Contender, str], str],
    refused: list[str],
) -> list[str]:
    """The names of what both were scored on and can be paired; reasons for the rest go to `refused`."""
    ours, theirs = names(subject), names(reference)
    refused += [f"{name}: only {subject.label} was scored on it" for name in ours if name not in theirs]
    refused += [f"{name}: only {reference.label} was scored on it" for name in theirs if name not in ours]
    found = []
    for name in ours:
        if name in theirs:
            reason = why_not(subject, reference, name)
            if reason:
                refused.append(f"{name}: {reason}")
            else:
                found.append(name)
    return found


def _set_names(one: Contender) -> list[str]:
    return [score.source for score in reported_sets(one.cell.scored[0].record)]


def _exam_names(one: Contender) -> list[str]:
    return [exam.task for exam in one.cell.scored[0].record.exams]


def _why_not_set(subject: Contender, reference: Contender, name: str) -> str:
    differing = _differing(subject, reference, _TEXT_SETTINGS)
    if differing:
        return differing
    ours, theirs = _documents(subject, name), _documents(reference, name)
    if [document.identity for document in ours] != [document.identity for document in theirs]:
        same = len({document.identity for document in ours} & {document.identity for document in theirs})
        return f"the documents differ: {same} are the same, of {len(ours)} and {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        if one.bytes != other.bytes:
            return (
                f"document {one.id!r} ({one.identity}) was scored over {one.bytes} bytes and over {other.bytes}: another text, "
                "or cut elsewhere by evaluate.document_tokens"
            )
    return ""


def _why_not_exam(subject: Contender, reference: Contender, task: str) -> str:
    ours, theirs = (next(e for e in one.cell.scored[0].record.exams if e.task == task) for one in (subject, reference))
    for key in _ASKED:
        if getattr(ours, key) != getattr(theirs, key):
            return f"{key} is {getattr(ours, key)} and {getattr(theirs, key)}"
    # Examples of lm-eval's tasks are drawn with this seed; exams of the study have none.
    keys = _EXAM_SETTINGS if ours.style else (*_EXAM_SETTINGS, "harness_seed")
    differing = _differing(subject, reference, keys)
    if differing:
        return differing
    first, second = ([_identity(item) for item in items_of(one.cell.scored[0], task)] for one in (subject, reference))
    if first != second:
        return f"the items differ: {len(set(first) & set(second))} are the same, of {len(first)} and {len(second)}"
    return _why_not_questions(subject, reference, task) if ours.style else ""


def _why_not_questions(subject: Contender, reference: Contender, exam: str) -> str:
    """Why an exam of the study did not ask both the same: the id of a question may be one of the user's own."""
    gone = [one.label for one in (subject, reference) if exam not in one.questions]
    if gone:
        return f"what {' and '.join(gone)} was asked cannot be told: its root has no questions of the exam in exams/"
    same = subject.questions[exam] == reference.questions[exam]
    return "" if same else "the questions differ under the same ids, or the examples before them do"


def _permutations(one: Contender, exam: str) -> int:
    """Other orders of the choices that an exam was scored in."""
    return next((found["permutations"] for found in one.settings.get("exams", ()) if found["name"] == exam), 0)


def _identity(item: ScoredItem) -> tuple[str, int | None, int]:
    """An id may be a line number, so the place of the answer and the number of choices must agree too."""
    return item.id, item.right, len(item.log_p)


def _differing(subject: Contender, reference: Contender, keys: tuple[str, ...]) -> str:
    found = [(key, subject.settings.get(key), reference.settings.get(key)) for key in keys]
    return "; ".join(f"evaluate.{key} is {ours} and {theirs}" for key, ours, theirs in found if ours != theirs)


def _documents(one: Contender, name: str) -> tuple[ScoredDocument, ...]:
    return documents_of(one.cell.scored[0], name).rows


def _tokens_differ(subject: Contender, reference: Contender, name: str) -> bool:
    ours, theirs = _documents(subject, name), _documents(reference, name)
    return [document.tokens for document in ours] != [document.tokens for document in theirs]


def _only(cell: Cell, sets: list[str], exams: list[str]) -> Cell:
    """A cell with some of its scores."""
    scored = tuple(
        Scored(
            one.record.model_copy(
                update={
                    "held_out": tuple(score for score in one.record.held_out if score.source in sets),
                    "exams": tuple(exam for exam in one.record.exams if exam.task in exams),
                }
            ),
            one.folder,
        )
        for one in cell.scored
    )
    return replace(cell, scored=scored)
