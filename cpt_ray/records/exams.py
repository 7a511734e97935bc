"""Exam items, which are scored and scanned for in training text, and where they were found in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

from cpt_ray.errors import DataError
from cpt_ray.records.base import Record


class ExamItem(Record):
    """One question of an exam.

    `answer` is the index of the correct choice, or its letter; for an lm-eval task that is only scanned for, it is the text
    that counts as the answer, without choices.
    """

    FILE: ClassVar[str] = "items.jsonl"
    EXAMPLES: ClassVar[str] = "few_shot.jsonl"
    """File of the questions that few-shot examples are taken from, next to the items."""

    task: str
    id: str
    question: str
    choices: tuple[str, ...] = ()
    answer: int | str = ""
    group: str = ""
    """What it belongs to, such as a subject or a year; intervals take groups as units."""

    @property
    def right_choice(self) -> int:
        """Index of the correct choice.

        Raises:
            ValueError: If the answer is a text.
        """
        if isinstance(self.answer, int):
            return self.answer
        letter = self.answer.strip().upper()
        if len(letter) == 1 and self.answer.strip() not in self.choices and "A" <= letter < chr(ord("A") + len(self.choices)):
            return ord(letter) - ord("A")
        raise ValueError(f"item {self.id!r} of {self.task} has no correct choice: its answer is {self.answer!r}")

    @property
    def answer_text(self) -> str:
        """The text of the correct answer."""
        try:
            return self.choices[self.right_choice] if self.choices else str(self.answer)
        except ValueError:
            return str(self.answer)


Half = Literal["validation", "test"]
"""What an item is for where something is selected by a score: selected on the one half, reported on the other."""


def half_of(task: str, item: str) -> Half:
    """The half of an item, by a hash of its name, so that it is the same for every model."""
    return "validation" if hashlib.sha256(f"{task}/{item}".encode()).digest()[0] % 2 else "test"


def read_items(path: Path) -> Iterator[ExamItem]:
    """Read a file of exam items, line by line.

    Raises:
        DataError: If the file is missing or a line is not an item; the message names file and line.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield _item(path, number, line)
    except OSError as error:
        raise DataError(
            f"{path}: exam items cannot be read: {error.strerror}",
            fix="delete the exam items folder and re-run the same command",
        ) from error


def _item(path: Path, number: int, line: str) -> ExamItem:
    try:
        item = ExamItem.from_json(line)
        if isinstance(item.answer, int) and item.choices and not 0 <= item.answer < len(item.choices):
            raise ValueError(f"answer {item.answer} is out of range for {len(item.choices)} choices")
    except ValueError as error:
        raise DataError(
            f"{path}, line {number}: not an exam item ({' '.join(str(error).split())[:200]})",
            fix="each line is a JSON object with task, id, question, choices and answer",
        ) from None
    return item


def write_items(items: Iterable[ExamItem]) -> str:
    """Format items as JSON lines.

    ASCII only: pydantic leaves U+2028 as is, and readers that split lines by Unicode rules treat it as a line break.
    """
    return "".join(f"{item.model_dump_json(ensure_ascii=True)}\n" for item in items)


class ExamHit(Record):
    """An exam item found in a training document: the longest run of its words, and the share it covers."""

    task: str
    item: str
    part: Literal["question", "answer"]
    """The part that the run covers more of."""
    source: str
    identity: str
    """Identity of the document; `document` is its id, a label that may repeat."""
    document: str
    words: int
    ratio: float
    """Share of the part's words that are in the run."""
    matched: str


class TaskScan(Record):
    """What was scanned for and found, for one exam task."""

    task: str
    items: int
    scanned: int
    too_short_to_scan: int
    items_found: int
    items_found_by_answer: int
    """Of these, how many by their answer alone."""
    documents_found: int
    late: bool = False
    """Whether the text was packed before the scan: what was found stays in the text and is trained on."""


class ExamScan(Record):
    """What a scan of training text for exam items found, by task; the hits are in a separate file, one per line."""

    FILE = "exam_scan.json"
    HITS: ClassVar[str] = "exam_hits.jsonl"

    tasks: tuple[TaskScan, ...]


def read_hits(folder: Path) -> list[ExamHit]:
    """Read the hits of the scan in a folder."""
    # Lines of the file: `splitlines` also splits at U+2028 and the like, which stand in names and texts as they are.
    with (folder / ExamScan.HITS).open("rb") as lines:
        return [ExamHit.from_json(line) for line in lines]
