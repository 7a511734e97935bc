"""The nouns of decontamination: what of an exam was found in the training text."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from cpt_ray.records.base import Record


class ExamHit(Record):
    """An exam item found in a training document: the longest run of its words, and what share it is."""

    task: str
    item: str
    part: Literal["question", "answer"]
    """The part of which the run covers the larger share."""
    source: str
    document: str
    words: int
    ratio: float
    """Share of the part's words that stand in the run."""
    matched: str


class TaskScan(Record):
    """What was scanned for one exam task and what was found."""

    task: str
    items: int
    scanned: int
    too_short_to_scan: int
    items_found: int
    items_found_by_answer: int
    """Of these, how many by their answer alone."""
    documents_found: int
    late: bool = False
    """Whether the text was packed before it was scanned: what was found is trained on, and stays."""


class ExamScan(Record):
    """What a scan of training text for exam items found, by task; the hits are in a file beside it, one per line."""

    FILE = "exam_scan.json"
    HITS: ClassVar[str] = "exam_hits.jsonl"

    tasks: tuple[TaskScan, ...]


def read_hits(folder: Path) -> list[ExamHit]:
    """The hits of the scan in a folder."""
    return [ExamHit.from_json(line) for line in (folder / ExamScan.HITS).read_text(encoding="utf-8").splitlines()]
