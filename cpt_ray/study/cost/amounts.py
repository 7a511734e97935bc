"""How much text a study prepares and how much it scores: counted where artifacts exist, assumed from settings where not.

In: a cell of the graph. Out: bytes of text, and tokens, documents and items that each model is scored on.
"""

from __future__ import annotations

import contextlib
import functools
import math
from typing import NamedTuple

from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import source_files
from cpt_ray.errors import CptRayError
from cpt_ray.records import ExamItem, read_items
from cpt_ray.study import store
from cpt_ray.study.graph import CellGraph
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.exams import EXAMS
from cpt_ray.study.stages.held_out import HELD_OUT

BYTES_PER_TOKEN = 4.0
"""Of English text and a vocabulary of 50,000."""
_DOCUMENT_TOKENS = 800
"""Mean of web documents, where the study's own are not known."""
_ITEMS, _CHOICES, _ITEM_BYTES = 1000, 4, 300
"""Of an exam that has not been read."""
_COMPRESSED = {".gz": 3.5, ".zst": 3.5, ".bz2": 4.0, ".xz": 4.5, ".zip": 3.0, ".parquet": 2.0}
"""Text per byte of a file, by its ending."""


class ScoredText(NamedTuple):
    """What each model of a study is scored on."""

    models: int
    tokens: float
    counted: bool
    lines: float
    """Documents and items: the lines of the files of each model's scores."""


def text_bytes(graph: CellGraph) -> float | None:
    """Bytes of the text that is prepared; None where a source does not say its size."""
    node = graph.one(DOCUMENTS)
    if store.exists(node):
        return float(sum(one.input.bytes for one in store.load(node).reports if one.stage == "read"))
    sizes = [
        graph.once(f"bytes {one.model_dump_json()}", functools.partial(_source_bytes, one)) for one in graph.config.read_sources
    ]
    known = [size for size in sizes if size]
    return sum(known) if len(known) == len(sizes) else None


def kept_bytes(graph: CellGraph) -> float | None:
    """Bytes of the text that is left after cleaning and duplicate removal; before that is known, of all that is prepared."""
    node = graph.one(DOCUMENTS)
    if not store.exists(node):
        return text_bytes(graph)
    last = {report.source: report.kept.bytes for report in store.load(node).reports}
    return float(sum(last.values()))


def _source_bytes(source: SourceConfig) -> float | None:
    with contextlib.suppress(CptRayError):
        return sum(
            file.size_bytes * next((factor for end, factor in _COMPRESSED.items() if end in file.path), 1.0)
            for file in source_files(source)[1]
        )
    return None


def scored_text(graph: CellGraph) -> ScoredText:
    """The models that are scored, and the tokens of each."""
    documents, held_out, is_counted = _held_out(graph)
    items, exams = _exam_items(graph)
    return ScoredText(len(graph.of(EVALUATE)), held_out + exams, is_counted, documents + items)


def _held_out(graph: CellGraph) -> tuple[float, float, bool]:
    """Documents, their tokens, and whether both were counted."""
    config = graph.config.evaluate
    node = graph.one(HELD_OUT)
    if store.exists(node):
        sets = [one for one in store.load(node).sets if one.is_scored]
        taken = [min(one.documents, config.held_out_documents) for one in sets]
        means = [_capped(one.bytes / max(1, one.documents) / BYTES_PER_TOKEN, config.document_tokens) for one in sets]
        return sum(taken), sum(number * mean for number, mean in zip(taken, means, strict=True)), True
    roles = [source.held_out_role for source in graph.config.read_sources]
    # The test half of each source, and the validation half of domain text.
    number = config.held_out_documents * sum((role is not None) + (role == "domain") for role in roles)
    return number, number * _capped(_DOCUMENT_TOKENS, config.document_tokens), False


def _capped(mean: float, most: int) -> float:
    """Mean of documents' tokens that are cut at `most`, for lengths that fall off exponentially."""
    return mean * (1 - math.exp(-most / mean)) if mean else 0.0


def _exam_items(graph: CellGraph) -> tuple[float, float]:
    """Items, and the tokens of their prompts."""
    config = graph.config.evaluate
    exams = {exam.name: exam for exam in config.exams}
    nodes = graph.of(EXAMS)
    if exams and nodes and store.exists(nodes[0]):
        items = [item for item in read_items(store.require(nodes[0]) / ExamItem.FILE) if item.task in exams]
        found = (_item_tokens(exams[item.task], len(item.question), [len(one) for one in item.choices]) for item in items)
        return len(items), sum(found)
    assumed = [_ITEM_BYTES // 10] * _CHOICES
    numbers = {name: exam.limit or _ITEMS for name, exam in exams.items()}
    return sum(numbers.values()), sum(_item_tokens(exam, _ITEM_BYTES, assumed) * numbers[name] for name, exam in exams.items())


def _item_tokens(exam: ExamConfig, question: int, choices: list[int]) -> float:
    """Tokens of an item's prompts: cloze scores the question with each choice, letter one prompt that lists them."""
    one = question + sum(choices)
    size = one if exam.style == "letter" else len(choices) * question + sum(choices)
    return (1 + exam.permutations) * (size + exam.few_shot * one) / BYTES_PER_TOKEN
