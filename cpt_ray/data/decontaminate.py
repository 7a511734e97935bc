"""Stage `decontaminate`: training documents that hold items of the study's own exams are dropped.

Flow: exam items as JSON lines {task, id, question, choices, answer} -> `ExamIndex`; then a document's word hashes in, the
items it holds out; any hit is the drop reason `exam_item`. Memory: 12 bytes per word of exam text in every process, and the
document at hand. The rule is the n-gram overlap of Brown et al. 2020 (arXiv 2005.14165, appendix C), with 13 words by default.

Guarantee: an item whose words stand in a row in a document is found whatever their case, punctuation or line breaks; an item
too short to be told from ordinary language is counted as `too_short_to_scan`, not passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cpt_ray.data.words import Hashes, fold, hash_ngrams, hash_words, word_spans, words
from cpt_ray.errors import DataError
from cpt_ray.records import Record

REASON = "exam_item"
_FEWEST_WORDS = 8
_MATCH_CHARACTERS = 200
_KEYS = ("task", "id", "question")


class ExamItem(Record):
    """One question of an exam; `answer` is the text of the right choice."""

    task: str
    id: str
    question: str
    answer: str = ""


class ExamHit(Record):
    """An exam item found in a training document, and the words that matched."""

    task: str
    item: str
    source: str
    document: str
    matched: str


class TaskScan(Record):
    """What was scanned for one exam task and what was found."""

    task: str
    items: int
    scanned: int
    too_short_to_scan: int
    items_found: int
    documents_dropped: int


def read_items(path: Path) -> Iterator[ExamItem]:
    """Read exam items.

    `answer` may be the text, the number of a choice, or its letter.

    Raises:
        DataError: If a line is not an item; names file and line.
    """
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                task, name, question = (str(row[key]) for key in _KEYS)
                answer = _answer_text(row.get("answer", ""), row.get("choices") or [])
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise DataError(
                    f"{path}, line {number}: not an exam item ({type(error).__name__}: {error})",
                    fix="each line is a JSON object with task, id, question, choices and answer",
                ) from None
            yield ExamItem(task=task, id=name, question=question, answer=answer)


def _answer_text(answer: object, choices: list[object]) -> str:
    if isinstance(answer, int) and choices:
        return str(choices[answer])
    letter = str(answer).strip()
    if letter not in map(str, choices) and len(letter) == 1 and "A" <= letter.upper() < chr(ord("A") + len(choices)):
        return str(choices[ord(letter.upper()) - ord("A")])
    return str(answer)


@dataclass
class ExamIndex:
    """N-grams of exam items.

    Attributes:
        items: The items that can be scanned for.
        grams: Words per n-gram to (sorted hashes, number of the item of each).
        too_short: Task to its number of items that are too short to scan for.
    """

    items: list[ExamItem] = field(default_factory=list)
    grams: dict[int, tuple[Hashes, npt.NDArray[np.int64]]] = field(default_factory=dict)
    too_short: dict[str, int] = field(default_factory=dict)

    @classmethod
    def build(cls, items: Iterable[ExamItem], ngram_words: int) -> ExamIndex:
        """Index the question, and the question followed by its answer, of every item.

        Args:
            items: Exam items.
            ngram_words: Words per n-gram; shorter texts of at least 8 words are one n-gram of all their words.
        """
        index = cls()
        found: dict[int, list[tuple[Hashes, int]]] = {}
        for item in items:
            texts = {tuple(words(item.question)), tuple(words(f"{item.question}\n{item.answer}"))}
            lengths = [(text, min(len(text), ngram_words)) for text in sorted(texts)]
            usable = [(text, length) for text, length in lengths if length >= min(_FEWEST_WORDS, ngram_words)]
            if not usable:
                index.too_short[item.task] = index.too_short.get(item.task, 0) + 1
                continue
            for text, length in usable:
                found.setdefault(length, []).append((hash_ngrams(hash_words(list(text)), length), len(index.items)))
            index.items.append(item)
        for length, entries in sorted(found.items()):
            hashes = np.concatenate([grams for grams, _ in entries])
            owners = np.repeat([owner for _, owner in entries], [len(grams) for grams, _ in entries])
            order = np.argsort(hashes, kind="stable")
            index.grams[length] = (hashes[order], owners[order].astype(np.int64))
        return index

    def find(self, word_hashes: Hashes) -> dict[int, tuple[int, int]]:
        """Find the items that a document holds.

        Args:
            word_hashes: `hash_words` of the document.

        Returns:
            Number of the item to (first word, words) of its first match in the document.
        """
        hits: dict[int, tuple[int, int]] = {}
        for length, (hashes, owners) in self.grams.items():
            document = hash_ngrams(word_hashes, length)
            low = np.searchsorted(hashes, document, side="left")
            inside = np.flatnonzero(low < len(hashes))
            inside = inside[hashes[low[inside]] == document[inside]]
            for position in inside.tolist():
                high = int(np.searchsorted(hashes, document[position], side="right"))
                for owner in owners[low[position] : high].tolist():
                    hits.setdefault(owner, (position, length))
        return hits

    def describe(self, hits: dict[int, tuple[int, int]], *, source: str, document: str, text: str) -> list[ExamHit]:
        """Name the items found in a document and quote the matching words."""
        if not hits:
            return []
        spans, folded = word_spans(text), fold(text)
        quotable = text if len(text) == len(folded) else folded
        return [
            ExamHit(
                task=self.items[number].task,
                item=self.items[number].id,
                source=source,
                document=document,
                matched=quotable[spans[first][0] : spans[first + length - 1][1]][:_MATCH_CHARACTERS],
            )
            for number, (first, length) in sorted(hits.items())
        ]

    def summary(self, hits: Iterable[ExamHit]) -> list[TaskScan]:
        """Count per task what was scanned and found."""
        items: dict[str, set[str]] = {}
        documents: dict[str, set[tuple[str, str]]] = {}
        for hit in hits:
            items.setdefault(hit.task, set()).add(hit.item)
            documents.setdefault(hit.task, set()).add((hit.source, hit.document))
        scanned: dict[str, int] = {}
        for item in self.items:
            scanned[item.task] = scanned.get(item.task, 0) + 1
        return [
            TaskScan(
                task=task,
                items=scanned.get(task, 0) + self.too_short.get(task, 0),
                scanned=scanned.get(task, 0),
                too_short_to_scan=self.too_short.get(task, 0),
                items_found=len(items.get(task, ())),
                documents_dropped=len(documents.get(task, ())),
            )
            for task in sorted({*scanned, *self.too_short})
        ]
