"""Stage `decontaminate`: drop or redact training documents that contain items of the study's exams.

Flow: exam items -> `ExamIndex`; then a document's word hashes in, its matches with items out. A document with a match is
dropped (`exam_item`) or loses the matching words. Memory: 20 bytes per word of exam text in every process, plus the current
document.

The rule is the n-gram overlap of Brown et al. 2020 (arXiv 2005.14165, appendix C), 13 words by default, over the question
followed by the answer. A match is extended to the longest run of equal words; the share of the question, or of the answer,
that the run covers is its ratio, and `min_match_ratio` can require more than a common phrase. For an item in a script without
spaces two characters stand for a word: 13 characters of Chinese are some eight words, and often an idiom.

Guarantee: an item whose words occur consecutively in a document is found regardless of case, punctuation and line breaks; an
item too short to distinguish from ordinary language is counted as `too_short_to_scan`, not silently skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from cpt_ray.data.scripts import CHARACTERS_PER_WORD, is_unspaced
from cpt_ray.data.words import FEWEST_WORDS, Hashes, fold, hash_ngrams, hash_words, word_spans
from cpt_ray.records import DocumentKey, ExamHit, ExamItem, TaskScan

REASON = "exam_item"
_MATCH_CHARACTERS = 200
_GAP = "\n\n"


@dataclass(frozen=True)
class Match:
    """A run of words that a document shares with an item: `first` and `words` refer to the document."""

    item: int
    part: Literal["question", "answer"]
    first: int
    words: int
    ratio: float


@dataclass(frozen=True)
class _Grams:
    """N-grams of one length: sorted hashes, each with the number of its item and its first word in the item."""

    hashes: Hashes
    items: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]


@dataclass
class ExamIndex:
    """Index of the n-grams of exam items.

    Attributes:
        items: The items that can be scanned for.
        sizes: Word counts of the question and the answer of each item.
        grams: The n-grams, by words per n-gram.
        too_short: Number of items that are too short to scan for, by task.
        min_ratio: Smallest share of a question or an answer that counts as a match.
    """

    min_ratio: float = 0.0
    items: list[ExamItem] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    grams: dict[int, _Grams] = field(default_factory=dict)
    too_short: dict[str, int] = field(default_factory=dict)

    @classmethod
    def build(cls, items: Iterable[ExamItem], ngram_words: int, min_ratio: float = 0.0) -> ExamIndex:
        """Index the question and the answer of every item.

        Args:
            items: Exam items.
            ngram_words: Words per n-gram; a shorter question or answer of at least 8 words is one n-gram of all its words.
            min_ratio: Smallest share of a question or an answer that counts as a match.
        """
        index = cls(min_ratio=min_ratio)
        found: dict[int, list[tuple[Hashes, int, int]]] = {}
        for item in items:
            question, answer = hash_words(item.question), hash_words(item.answer_text)
            whole = np.concatenate([question, answer])
            each = CHARACTERS_PER_WORD if is_unspaced(f"{item.question}\n{item.answer_text}") else 1
            wanted, fewest = ngram_words * each, min(FEWEST_WORDS, ngram_words) * each
            # A part shorter than an n-gram would be found only together with its neighbor, so it is indexed by itself too.
            parts = [(whole, 0)] + [
                (part, start) for part, start in ((question, 0), (answer, len(question))) if len(part) < wanted
            ]
            usable = [(part, start) for part, start in parts if len(part) >= fewest]
            if not usable:
                index.too_short[item.task] = index.too_short.get(item.task, 0) + 1
                continue
            for part, start in usable:
                length = min(len(part), wanted)
                found.setdefault(length, []).append((hash_ngrams(part, length), len(index.items), start))
            index.items.append(item)
            index.sizes.append((len(question), len(answer)))
        for length, entries in sorted(found.items()):
            hashes = np.concatenate([grams for grams, _, _ in entries])
            owners = np.repeat([owner for _, owner, _ in entries], [len(grams) for grams, _, _ in entries])
            positions = np.concatenate([np.arange(len(grams)) + start for grams, _, start in entries])
            order = np.argsort(hashes, kind="stable")
            index.grams[length] = _Grams(hashes[order], owners[order].astype(np.int64), positions[order])
        return index

    def find(self, word_hashes: Hashes) -> list[Match]:
        """Find the word runs that a document shares with items.

        Args:
            word_hashes: `hash_words` of the document.

        Returns:
            Every run of equal words that starts with an n-gram of an item, by position in the document.
        """
        matches = [
            self._match(item, first, position, words)
            for length, grams in self.grams.items()
            for item, first, position, words in _runs(grams, hash_ngrams(word_hashes, length), length)
        ]
        return sorted(
            (match for match in matches if match.ratio >= self.min_ratio),
            key=lambda match: (match.first, -match.words, match.item),
        )

    def _match(self, item: int, first: int, position: int, words: int) -> Match:
        question, answer = self.sizes[item]
        of_question = max(0, min(position + words, question) - position) / max(question, 1)
        of_answer = (position + words - max(position, question)) / answer if position + words > question else 0.0
        part: Literal["question", "answer"] = "question" if of_question >= of_answer else "answer"
        return Match(item=item, part=part, first=first, words=words, ratio=max(of_question, of_answer))

    def describe(self, matches: Iterable[Match], *, source: str, document: DocumentKey, text: str) -> list[ExamHit]:
        """Name the items found in a document and quote the longest match of each."""
        best: dict[int, Match] = {}
        for match in matches:
            if match.item not in best or match.words > best[match.item].words:
                best[match.item] = match
        if not best:
            return []
        spans, quotable = word_spans(text), text
        # Folding can change the number of words (one Unicode character becomes several); then the folded text is quoted.
        if spans is None:
            quotable = fold(text)
            spans = word_spans(quotable) or []
        return [
            ExamHit(
                task=self.items[number].task,
                item=self.items[number].id,
                part=match.part,
                source=source,
                identity=document.identity,
                document=document.id,
                words=match.words,
                ratio=round(match.ratio, 4),
                matched=quotable[spans[match.first][0] : spans[match.first + match.words - 1][1]][:_MATCH_CHARACTERS],
            )
            for number, match in sorted(best.items())
        ]

    def redact(self, text: str) -> str | None:
        """Cut every match out of a text, leaving a blank line in its place.

        Returns:
            The text without the words of any item; None if its words cannot be located in the original text because
            case folding changed their number, or if no words are left.
        """
        # Again and again: a cut joins the words on both sides of it, which can complete another match.
        while matches := self.find(hash_words(text)):
            spans = word_spans(text)
            if spans is None:
                return None
            cuts = [(spans[first][0], spans[end - 1][1]) for first, end in _merged(matches)]
            kept = zip([0, *(end for _, end in cuts)], [*(first for first, _ in cuts), len(text)], strict=True)
            text = _GAP.join(filter(None, (text[start:stop].strip() for start, stop in kept)))
        text = text.strip()
        return text if len(hash_words(text)) else None

    def summary(self, hits: Iterable[ExamHit]) -> list[TaskScan]:
        """Count scanned and found items per task."""
        parts: dict[str, dict[str, set[str]]] = {}
        documents: dict[str, set[str]] = {}
        for hit in hits:
            parts.setdefault(hit.task, {}).setdefault(hit.item, set()).add(hit.part)
            documents.setdefault(hit.task, set()).add(hit.identity)
        scanned: dict[str, int] = {}
        for item in self.items:
            scanned[item.task] = scanned.get(item.task, 0) + 1
        return [
            TaskScan(
                task=task,
                items=scanned.get(task, 0) + self.too_short.get(task, 0),
                scanned=scanned.get(task, 0),
                too_short_to_scan=self.too_short.get(task, 0),
                items_found=len(parts.get(task, ())),
                items_found_by_answer=sum(found == {"answer"} for found in parts.get(task, {}).values()),
                documents_found=len(documents.get(task, ())),
            )
            for task in sorted({*scanned, *self.too_short})
        ]


def _merged(matches: Iterable[Match]) -> list[tuple[int, int]]:
    """First word and end of the spans that the matches cover, in order and without overlap."""
    merged: list[tuple[int, int]] = []
    for first, end in sorted((match.first, match.first + match.words) for match in matches):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def _runs(grams: _Grams, document: Hashes, length: int) -> Iterator[tuple[int, int, int, int]]:
    """Join matching n-grams that are consecutive in both the document and the item.

    Yields:
        Item number, first word in the document, first word in the item, number of words.
    """
    low = np.searchsorted(grams.hashes, document, side="left")
    places = np.flatnonzero(low < len(grams.hashes))
    places = places[grams.hashes[low[places]] == document[places]]
    if not len(places):
        return
    low = low[places]
    counts = np.searchsorted(grams.hashes, document[places], side="right") - low
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.repeat(low, counts) + offsets
    first, item, position = np.repeat(places, counts), grams.items[found], grams.positions[found]
    order = np.lexsort((first, first - position, item))
    first, item, position = first[order], item[order], position[order]
    starts = np.ones(len(first), dtype=np.bool_)
    starts[1:] = (np.diff(item) != 0) | (np.diff(first - position) != 0) | (np.diff(first) != 1)
    begins = np.flatnonzero(starts)
    sizes = np.diff(np.append(begins, len(first))) + length - 1
    yield from zip(item[begins].tolist(), first[begins].tolist(), position[begins].tolist(), sizes.tolist(), strict=True)
