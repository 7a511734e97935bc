"""Records of decontamination: exam items found in the training text."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from cpt_ray.records.base import Record


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
    return [ExamHit.from_json(line) for line in (folder / ExamScan.HITS).read_text(encoding="utf-8").splitlines()]
