"""The nouns of decontamination: what of an exam was found in the training text."""

from __future__ import annotations

from typing import Literal

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
