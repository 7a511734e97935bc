"""Scores of single documents and exam items, as JSON lines: every interval of a comparison is computed from them.

Scorers write them and `compare` reads them, so nothing here needs torch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cpt_ray.errors import DataError
from cpt_ray.records import Half

Floats = NDArray[np.float64]

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

_FIX = "delete the evaluation's folder and run `cpt-ray evaluate` again"


Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class ScoredDocument:
    """The score of one document: sum of -log p over its scored tokens, and the tokens and bytes covered."""

    __pydantic_config__ = _STRICT

    identity: str
    id: str
    """The source's own id: a label that several documents may have."""
    nats: float
    tokens: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    cut: bool = False
    """Whether the document goes on after `evaluate.document_tokens`, and its rest is not scored."""


@dataclass(frozen=True)
class ScoredSet:
    """The scores of a set's documents, row by row and in columns: a large study subtracts thousands of pairs of them."""

    rows: tuple[ScoredDocument, ...]

    @functools.cached_property
    def identities(self) -> tuple[str, ...]:
        """[documents], what each is recognized by."""
        return tuple(row.identity for row in self.rows)

    @functools.cached_property
    def nats(self) -> Floats:
        """[documents]."""
        return np.array([row.nats for row in self.rows], dtype=np.float64)

    @functools.cached_property
    def tokens(self) -> Floats:
        """[documents], scored tokens."""
        return np.array([row.tokens for row in self.rows], dtype=np.float64)

    @functools.cached_property
    def bytes(self) -> Floats:
        """[documents], of the text of the scored tokens."""
        return np.array([row.bytes for row in self.rows], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """One model's result on one exam item."""

    __pydantic_config__ = _STRICT

    id: str
    accuracy: Share
    """1 if the correct choice has the highest log-probability, else 0; or what else a task gives an item, from 0 to 1."""
    accuracy_norm: Share | None
    """The same with log-probability per character of the choice; None if the task does not report it."""
    log_p: tuple[float, ...]
    """Nats, one per choice; none where a task has no choices."""
    right: Annotated[int, Field(ge=0)] | None = None
    """Index of the correct choice; None if the task has none."""
    group: str = ""
    """What the item belongs to; groups are the units of intervals."""
    half: Half = "test"
    """Where something is selected by a score: selected on `validation`, reported on `test`."""
    order_accuracy: Share | None = None
    """Mean accuracy over the orders of the choices that were scored; None if only one was."""
    order_changes: Share | None = None
    """1 if the chosen answer is not the same in all of them, else 0."""

    @property
    def margin(self) -> float | None:
        """Log p of the correct choice minus that of the best other one, in nats; None without a correct choice or another."""
        if self.right is None or len(self.log_p) < 2:
            return None
        return self.log_p[self.right] - max(value for place, value in enumerate(self.log_p) if place != self.right)


_Score = TypeVar("_Score", ScoredDocument, ScoredItem)
_DOCUMENTS, _ITEMS = TypeAdapter(list[ScoredDocument]), TypeAdapter(list[ScoredItem])


def format_scores(scores: Sequence[ScoredDocument] | Sequence[ScoredItem]) -> str:
    """Format scores as JSON lines."""
    return "".join(json.dumps(asdict(score)) + "\n" for score in scores)


def read_document_scores(path: Path) -> list[ScoredDocument]:
    """Read the scores of documents.

    Raises:
        DataError: If the file is missing or a line is invalid.
    """
    return _read(path, _DOCUMENTS, "per-document score")


def read_item_scores(path: Path) -> list[ScoredItem]:
    """Read the scores of exam items.

    Raises:
        DataError: If the file is missing or a line is invalid.
    """
    return _read(path, _ITEMS, "per-item score")


def sum_by_group(values: Floats, items: Sequence[ScoredItem]) -> tuple[Floats, Floats, str]:
    """Sum values over the groups of their items, where there are groups; an item without one is a unit of its own.

    Args:
        values: [.., items].
        items: The items.

    Returns:
        Sums [.., units], the number of items of each unit [units], and the name of the units.
    """
    if not any(item.group for item in items):
        return values, np.ones(len(items)), "items"
    names = [("group", item.group) if item.group else ("item", str(place)) for place, item in enumerate(items)]
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    unit = np.array([number[name] for name in names])
    # Not by a matrix of items and units: of 14,000 items in groups of four that had 392 MB.
    rows = [np.bincount(unit, weights=row, minlength=len(number)) for row in values.reshape(-1, len(items))]
    sums = np.array(rows, dtype=np.float64).reshape(*values.shape[:-1], len(number))
    return sums, np.bincount(unit).astype(np.float64), "groups of items"


def _read(path: Path, checked: TypeAdapter[list[_Score]], called: str) -> list[_Score]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {called}s cannot be read: {error.strerror}", fix=_FIX) from error
    try:
        # All at once, in half of the time; a list of another length or an error is looked for line by line.
        scores = checked.validate_json(f"[{','.join(lines)}]")
    except ValidationError:
        scores = []
    if len(scores) != len(lines):
        scores = [_one(line, checked, f"{path}, line {number}: not a {called}") for number, line in enumerate(lines, start=1)]
    for number, score in enumerate(scores, start=1):
        if isinstance(score, ScoredItem) and score.right is not None and score.right >= len(score.log_p):
            raise DataError(
                f"{path}, line {number}: not a {called}: right is {score.right}, of {len(score.log_p)} choices", fix=_FIX
            )
    if not scores:
        raise DataError(f"{path}: no {called}s", fix=_FIX)
    return scores


def _one(line: str, checked: TypeAdapter[list[_Score]], wrong: str) -> _Score:
    try:
        found = checked.validate_json(f"[{line}]")
    except ValidationError as error:
        raise DataError(f"{wrong}{_why(error)}", fix=_FIX) from error
    if len(found) != 1:
        raise DataError(f"{wrong}: {len(found)} in one line", fix=_FIX)
    return found[0]


def _why(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"][1:]))
    return f": {place}: {first['msg']}, saw {first['input']!r}" if place else f": {first['msg']}"
