"""Scores of single documents and exam items, as JSON lines: every interval of a comparison is computed from them.

Scorers write them and `compare` reads them, so nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from cpt_ray.errors import DataError

_FIX = "delete the evaluation's folder and run `cpt-ray evaluate` again"


@dataclass(frozen=True, slots=True)
class ScoredDocument:
    """The score of one document: sum of -log p over its scored tokens, and the tokens and bytes covered."""

    identity: str
    id: str
    """The source's own id: a label that several documents may have."""
    nats: float
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """One model's result on one exam item."""

    id: str
    accuracy: float
    """1 if the correct choice has the highest log-probability, else 0."""
    accuracy_norm: float | None
    """The same with log-probability per character of the choice; None if the task does not report it."""
    log_p: tuple[float, ...]
    """Nats, one per choice."""


_Score = TypeVar("_Score", ScoredDocument, ScoredItem)


def format_scores(scores: Sequence[ScoredDocument] | Sequence[ScoredItem]) -> str:
    """Format scores as JSON lines."""
    return "".join(json.dumps(asdict(score)) + "\n" for score in scores)


def read_document_scores(path: Path) -> list[ScoredDocument]:
    """Read the scores of documents.

    Raises:
        DataError: If the file is missing or a line is invalid.
    """
    return _read(path, ScoredDocument, "per-document score")


def read_item_scores(path: Path) -> list[ScoredItem]:
    """Read the scores of exam items.

    Raises:
        DataError: If the file is missing or a line is invalid.
    """
    return _read(path, ScoredItem, "per-item score", tuple_fields=("log_p",))


def _read(path: Path, kind: type[_Score], called: str, *, tuple_fields: tuple[str, ...] = ()) -> list[_Score]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {called}s cannot be read: {error.strerror}", fix=_FIX) from error
    scores = []
    for number, line in enumerate(lines, start=1):
        try:
            fields: dict[str, Any] = json.loads(line)
            score = kind(**fields | {name: tuple(fields[name]) for name in tuple_fields})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}, line {number}: not a {called}", fix=_FIX) from error
        _check_numbers(score, f"{path}, line {number}")
        scores.append(score)
    return scores


def _check_numbers(score: ScoredDocument | ScoredItem, place: str) -> None:
    """Refuse a line whose numbers are not numbers, or counts that are below 0, as a hand-edited file may have."""
    if isinstance(score, ScoredDocument):
        numbers: dict[str, object] = {"nats": score.nats, "tokens": score.tokens, "bytes": score.bytes}
    else:
        numbers = {"accuracy": score.accuracy, **{f"log_p[{number}]": value for number, value in enumerate(score.log_p)}}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{place}: {name} is {value!r}, not a number", fix=_FIX)
        if name in ("tokens", "bytes") and (value < 0 or value != int(value)):
            raise DataError(f"{place}: {name} is {value}, not a count", fix=_FIX)
