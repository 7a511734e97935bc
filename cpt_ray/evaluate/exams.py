"""Exam items: multiple-choice questions from JSON lines, or from the few-shot examples in lm-eval's MMLU task files.

In: `evaluate.exams` of the study file. Out: one JSONL file {task, id, question, choices, answer}, where `answer` is an index.
`harness` scores the items of this file, and data preparation scans the training text for the same items.
Guarantee: the sample depends only on the items' content, never on file order.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.edges.source_files import list_source_files, open_source
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import DataError
from cpt_ray.records import ExamItem, write_items

REPORT_FILE = "exam_report.json"

_LETTERS = "ABCDEFGHIJ"
_LINE_FIX = "each line must be {question: string, choices: [string, string, ...], answer: index from 0, or letter from A}"


@dataclass(frozen=True)
class ExamReading:
    """The items of one exam, and what was left out, by reason."""

    items: tuple[ExamItem, ...]
    found: int
    """Questions in the files: items + malformed + duplicates + not drawn."""
    malformed: tuple[str, ...]
    """`file, question number` of each question that could not be read."""
    duplicates: int
    not_drawn: int


def read_exam(exam: ExamConfig) -> ExamReading:
    """Read an exam's files, drop repeated questions, and sample `limit` items by hash.

    Raises:
        DataError: If a file cannot be read as the exam's format, or no item is left.
    """
    found = 0
    malformed: list[str] = []
    unique: dict[str, ExamItem] = {}
    for path, *_ in list_source_files(exam.path):
        with open_source(path) as stream:
            content: bytes = stream.read()
        for place, item in _READERS[exam.format](exam.name, path, content):
            found += 1
            if item is None:
                malformed.append(place)
            else:
                unique.setdefault(item.id, item)
    items = sorted(unique.values(), key=lambda item: hashlib.sha256(f"{exam.name}/{item.id}".encode()).digest())
    drawn = items[: exam.limit]
    if not drawn:
        raise DataError(
            f"evaluate.exams {exam.name}: {found} questions in {exam.path}, none of them well formed",
            fix="check the exam's path and format",
        )
    return ExamReading(
        items=tuple(drawn),
        found=found,
        malformed=tuple(malformed),
        duplicates=found - len(malformed) - len(items),
        not_drawn=len(items) - len(drawn),
    )


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
        }
        for name, reading in readings.items()
    }
    write_atomic(folder / REPORT_FILE, json.dumps(report, indent=2) + "\n")
    write_atomic(folder / ExamItem.FILE, write_items(item for reading in readings.values() for item in reading.items))


def _item(task: str, identifier: str | None, question: str, choices: Sequence[str], answer: int) -> ExamItem:
    content = json.dumps([question, *choices], ensure_ascii=False)
    return ExamItem(
        task=task,
        id=identifier or hashlib.sha256(content.encode()).hexdigest()[:16],
        question=question,
        choices=tuple(choices),
        answer=answer,
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
    if isinstance(answer, str) and len(answer) == 1 and answer in _LETTERS:
        answer = _LETTERS.index(answer)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise DataError(f"{place}: answer must name one of {len(choices)} choices, saw {answer!r}", fix=_LINE_FIX)
    return _item(task, str(fields["id"]) if "id" in fields else None, question.strip(), choices, answer)


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
