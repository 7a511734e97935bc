"""Exam items: multiple-choice questions from JSON lines, or from the few-shot examples in lm-eval's MMLU task files.

In: `evaluate.exams` of the study file. Out: one JSONL file {task, id, question, choices, answer, group}, where `answer` is an
index, and another with the questions that few-shot examples are taken from. `choices` scores the items, and data preparation
scans the training text for the same items.
Guarantee: the sample depends only on the items' content, never on file order; no example is scored.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.edges.source_files import list_source_files, open_source
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import DataError
from cpt_ray.records import ExamItem, write_items

REPORT_FILE = "exam_report.json"

LETTERS = string.ascii_uppercase
"""Names of choices, in files of exams and in prompts."""
_LINE_FIX = (
    "each line must be {question: string, choices: [string, string, ...], answer: index from 0, or letter from A}, "
    "optionally with id and group as strings"
)


@dataclass(frozen=True)
class ExamReading:
    """The items of one exam, and what was left out, by reason."""

    items: tuple[ExamItem, ...]
    examples: tuple[ExamItem, ...]
    """What few-shot examples are taken from."""
    found: int
    """Questions in the files: items + malformed + duplicates + not drawn, with the examples taken out of it."""
    malformed: tuple[str, ...]
    """`file, question number` of each question that could not be read."""
    duplicates: int
    """Questions that are there already, with the same choices and answer."""
    not_drawn: int


def read_exam(exam: ExamConfig) -> ExamReading:
    """Read an exam's files, drop repeated questions, and sample `limit` items by hash.

    Raises:
        DataError: If a file cannot be read as the exam's format, two questions contradict each other (`_Unique`), no item is
            left, or there are too few examples.
    """
    found = _read_questions(exam, exam.path)
    if not found.items:
        raise DataError(
            f"evaluate.exams {exam.name}: {found.found} questions in {exam.path}, none of them well formed",
            fix="check the exam's path and format",
        )
    items, examples = found.items, _examples(exam, found.items)
    if exam.few_shot and exam.few_shot_path is None:
        items = items[exam.few_shot :]
    drawn = items[: exam.limit]
    return ExamReading(
        items=tuple(drawn),
        examples=tuple(examples),
        found=found.found,
        malformed=tuple(found.malformed),
        duplicates=found.found - len(found.malformed) - len(found.items),
        not_drawn=len(found.items) - len(drawn),
    )


class _Questions(NamedTuple):
    items: list[ExamItem]
    """Unique, in the order of a hash."""
    malformed: list[str]
    found: int


def _read_questions(exam: ExamConfig, pattern: str) -> _Questions:
    count = 0
    malformed: list[str] = []
    unique = _Unique()
    for path, *_ in list_source_files(pattern):
        with open_source(path) as stream:
            content: bytes = stream.read()
        for place, item in _READERS[exam.format](exam.name, path, content):
            count += 1
            if item is None:
                malformed.append(place)
            else:
                unique.add(place, item)
    items = sorted(unique.items(), key=lambda item: hashlib.sha256(f"{exam.name}/{item.id}".encode()).digest())
    return _Questions(items, malformed, count)


class _Unique:
    """The questions of all files of an exam, each once; of repeated ones the smallest id stays, whatever the order."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, tuple[str, ...]], tuple[str, ExamItem]] = {}
        self._ids: dict[str, tuple[str, ExamItem]] = {}

    def add(self, place: str, item: ExamItem) -> None:
        """Take a question from a place.

        Raises:
            DataError: If its id is that of another question, or it is there already with another answer.
        """
        content = (item.question, item.choices)
        before, holder = self._ids.setdefault(item.id, (place, item))
        if (holder.question, holder.choices) != content:
            raise DataError(
                f"{place}: id {item.id!r} is that of another question, {before}",
                fix="give each question an id that no other one has in any file of the exam, or leave out id",
            )
        first, known = self._found.setdefault(content, (place, item))
        if known.answer != item.answer:
            raise DataError(
                f"{place}: the question and choices of {first}, with another answer",
                fix="correct the answer of one of them, or remove one",
            )
        self._found[content] = (first, min(known, item, key=lambda one: (one.id, one.group)))

    def items(self) -> list[ExamItem]:
        """One of each question."""
        return [item for _, item in self._found.values()]


def _examples(exam: ExamConfig, items: Sequence[ExamItem]) -> list[ExamItem]:
    """As many examples as one prompt takes of each group, and of all; none of them is scored."""
    if not exam.few_shot:
        return []
    key = f"evaluate.exams {exam.name}"
    if exam.few_shot_path is None:
        if len(items) <= exam.few_shot:
            raise DataError(
                f"{key}: few_shot={exam.few_shot} examples out of {len(items)} questions leave none to score",
                fix=f"lower few_shot below {len(items)}, or give other questions as few_shot_path",
            )
        return list(items[: exam.few_shot])
    scored = {(item.question, item.choices) for item in items}
    pool = _read_questions(exam, exam.few_shot_path).items
    free = [item for item in pool if (item.question, item.choices) not in scored]
    if len(free) < exam.few_shot:
        raise DataError(
            f"{key}: {len(free)} questions in {exam.few_shot_path} are not scored themselves, few_shot needs {exam.few_shot}",
            fix="add questions that are not in the exam to few_shot_path, or lower few_shot",
        )
    kept = dict.fromkeys(free[: exam.few_shot])
    for group in dict.fromkeys(item.group for item in free):
        of_group = [item for item in free if item.group == group]
        kept.update(dict.fromkeys(of_group[: exam.few_shot]))
    return list(kept)


def write_exams(exams: Sequence[ExamConfig], folder: Path) -> None:
    """Write the items of all exams to one file, and next to it a report of what was left out of each.

    Raises:
        DataError: See `read_exam`.
    """
    readings = {exam.name: read_exam(exam) for exam in exams}
    report = {
        name: {
            "found": reading.found,
            "items": len(reading.items),
            "malformed": list(reading.malformed),
            "duplicates": reading.duplicates,
            "not_drawn": reading.not_drawn,
            "examples": len(reading.examples),
        }
        for name, reading in readings.items()
    }
    write_atomic(folder / REPORT_FILE, json.dumps(report, indent=2) + "\n")
    write_atomic(folder / ExamItem.FILE, write_items(item for reading in readings.values() for item in reading.items))
    write_atomic(folder / ExamItem.EXAMPLES, write_items(item for reading in readings.values() for item in reading.examples))


def _item(task: str, identifier: str | None, question: str, choices: Sequence[str], answer: int, group: str = "") -> ExamItem:
    content = json.dumps([question, *choices], ensure_ascii=False)
    return ExamItem(
        task=task,
        id=identifier or hashlib.sha256(content.encode()).hexdigest()[:16],
        question=question,
        choices=tuple(choices),
        answer=answer,
        group=group,
    )


def _read_jsonl(task: str, path: str, content: bytes) -> Iterator[tuple[str, ExamItem]]:
    seen: dict[str, int] = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: not JSON", fix=_LINE_FIX) from error
        item = _jsonl_item(task, place, fields)
        explicit = "id" in fields
        if explicit and item.id in seen:
            raise DataError(f"{place}: id {item.id!r} also used in line {seen[item.id]}", fix="give each question a unique id")
        if explicit:
            seen[item.id] = number
        yield place, item


def _jsonl_item(task: str, place: str, fields: Any) -> ExamItem:
    if not isinstance(fields, dict):
        raise DataError(f"{place}: not a JSON object", fix=_LINE_FIX)
    question, choices, answer = (fields.get(key) for key in ("question", "choices", "answer"))
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{place}: no question", fix=_LINE_FIX)
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        raise DataError(f"{place}: choices must be at least two non-empty strings, saw {choices!r}", fix=_LINE_FIX)
    if isinstance(answer, str) and len(answer) == 1 and answer in LETTERS:
        answer = LETTERS.index(answer)
    if "answer" not in fields:
        raise DataError(f"{place}: no answer", fix=_LINE_FIX)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise DataError(f"{place}: answer must name one of {len(choices)} choices, saw {answer!r}", fix=_LINE_FIX)
    group = fields.get("group", "")
    if not isinstance(group, str):
        raise DataError(f"{place}: group must be a string, saw {group!r}", fix=_LINE_FIX)
    return _item(task, str(fields["id"]) if "id" in fields else None, question.strip(), choices, answer, group)


# Greedy up to "(A)": a question that itself mentions "(A)" keeps its text; the last run of letters gives the choices.
_MMLU_QUESTION = re.compile(r"(.*)\(A\)(.*?)\(B\)(.*?)\(C\)(.*?)\(D\)(.*)", re.DOTALL)
_MMLU_ANSWER = re.compile(r"answer is \(([A-Z])\)")


def _read_mmlu_flan_cot(task: str, path: str, content: bytes) -> Iterator[tuple[str, ExamItem | None]]:
    try:
        samples = yaml.safe_load(content)["fewshot_config"]["samples"]
        pairs = [(str(sample["question"]), str(sample["target"])) for sample in samples]
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:  # ValueError: an impossible date
        raise DataError(
            f"{path}: no few-shot questions under fewshot_config.samples",
            fix="point the exam's path at lm-eval's tasks/mmlu/flan_cot_fewshot/mmlu_*.yaml, or set format: jsonl",
        ) from error
    for number, (question, target) in enumerate(pairs, start=1):
        yield f"{path}, question {number}", _mmlu_item(task, question, target)


def _mmlu_item(task: str, question: str, target: str) -> ExamItem | None:
    parts = _MMLU_QUESTION.fullmatch(question)
    answers = _MMLU_ANSWER.findall(target)
    if parts is None or not answers or answers[-1] not in "ABCD":
        return None
    stem, *choices = (part.strip() for part in parts.groups())
    if not stem or not all(choices):
        return None
    return _item(task, None, stem, choices, "ABCD".index(answers[-1]))


_READERS = {"jsonl": _read_jsonl, "mmlu_flan_cot": _read_mmlu_flan_cot}
