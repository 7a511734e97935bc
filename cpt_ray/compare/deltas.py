"""Paired differences between two cells of a study: the same documents, the same items, subject minus reference.

In: `EvalRecord`s with their per-document and per-item files. Out: `Delta`s. Held-out sets: documents are resampled jointly for
subject and reference, and both bits per byte are recomputed (a ratio estimator); exams: normal interval of the mean paired
difference (Miller 2024, section 4.2). With several seeds, the seeds are resampled as well, and the interval's `kind` says so.
Guarantee: two scores are never subtracted unless they cover the same documents, bytes and items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.errors import DataError
from cpt_ray.evaluate import intervals
from cpt_ray.evaluate.intervals import Floats
from cpt_ray.evaluate.per_item import ScoredDocument, ScoredItem, read_document_scores, read_item_scores
from cpt_ray.records import Delta, EvalRecord, ExamScore, HeldOutScore, Interval

ONE_SEED = "evaluation items only, not training randomness"

_MISMATCH_FIX = "delete both evaluation folders and run `cpt-ray evaluate` again, so that both are scored on the same items"
_ACCURACIES: dict[Literal["accuracy_points", "accuracy_norm_points"], str] = {
    "accuracy_points": "accuracy",
    "accuracy_norm_points": "accuracy_norm",
}


class Scored(NamedTuple):
    """One model's scores, and the folder of its per-item files."""

    record: EvalRecord
    folder: Path


@dataclass(frozen=True)
class Cell:
    """One point of the study's grid with all its seeds: the base (no arm), or an arm at a budget."""

    model: str
    arm: str | None
    budget_tokens: int | None
    scored: tuple[Scored, ...]
    """In ascending order of seeds."""

    @property
    def name(self) -> str:
        """The run's name, or the cell's if there are several seeds."""
        if len(self.scored) == 1:
            return self.scored[0].record.run
        return f"{self.model}-{self.arm}-{self.budget_tokens} (mean of {len(self.scored)} seeds)"


class PairedDeltas(NamedTuple):
    """The differences between two cells: over all seeds and, if there are several, per seed."""

    overall: tuple[Delta, ...]
    by_seed: tuple[Delta, ...]


def cell_deltas(subject: Cell, reference: Cell, config: CompareConfig) -> PairedDeltas:
    """Compare two cells on every test set and exam of the subject.

    A base is compared with each seed; two trained cells are paired by seed, and cannot be compared without a common one.

    Returns:
        The differences; both tuples are empty if the cells have no seed in common.

    Raises:
        DataError: If the two were not scored on the same documents, bytes or items.
    """
    if reference.arm is None:
        pairs = [(scored, reference.scored[0]) for scored in subject.scored]
    else:
        by_seed = {scored.record.seed: scored for scored in reference.scored}
        pairs = [(scored, by_seed[scored.record.seed]) for scored in subject.scored if scored.record.seed in by_seed]
    if not pairs:
        return PairedDeltas((), ())
    singly = [_deltas([pair], (pair[0].record.run, pair[1].record.run), config) for pair in pairs]
    if len(pairs) == 1:
        return PairedDeltas(tuple(singly[0]), ())
    return PairedDeltas(
        tuple(_deltas(pairs, (subject.name, reference.name), config)), tuple(delta for deltas in singly for delta in deltas)
    )


def reported_sets(record: EvalRecord) -> list[HeldOutScore]:
    """The scores that are reported: those on the test part. Validation is for selection."""
    return [score for score in record.held_out if score.part == "test"]


def _deltas(pairs: Sequence[tuple[Scored, Scored]], names: tuple[str, str], config: CompareConfig) -> list[Delta]:
    deltas = [_held_out_delta(pairs, names, score, config) for score in reported_sets(pairs[0][0].record)]
    for exam in pairs[0][0].record.exams:
        items = [(_items(subject, exam.task), _items(reference, exam.task)) for subject, reference in pairs]
        for measure, field in _ACCURACIES.items():
            if getattr(exam, field) is not None:
                deltas.append(_exam_delta(items, names, exam, measure, config))
    return deltas


def _held_out_delta(
    pairs: Sequence[tuple[Scored, Scored]], names: tuple[str, str], score: HeldOutScore, config: CompareConfig
) -> Delta:
    documents = [(_documents(subject, score.source), _documents(reference, score.source)) for subject, reference in pairs]
    first = documents[0][0]
    for pair in documents:
        for other, run in zip(pair, names, strict=True):
            _check_same_documents(first, other, score.source, names[0], run)
    num_bytes = np.array([document.bytes for document in first], dtype=np.float64)
    nats = [np.array([[document.nats for document in side] for side in pair]) for pair in documents]
    columns = np.column_stack([num_bytes, *(side for pair in nats for side in pair)])
    subject_values, reference_values = _seed_values(columns.sum(axis=0, keepdims=True))
    # Named after the set, not the runs: all differences on a set use the same resamples, and adding a run moves none of them.
    random = intervals.generator(config.seed, f"delta/{score.source}")
    sums = intervals.resample_sums(columns, samples=config.bootstrap_samples, random=random)
    resampled_subject, resampled_reference = _seed_values(sums)
    weights = _seed_weights(len(pairs), config, f"seeds/{score.source}")
    resampled = ((resampled_subject - resampled_reference) * weights).sum(axis=1)
    interval = intervals.percentile_interval(
        resampled, confidence=config.confidence, kind=_kind("paired bootstrap over documents", len(pairs), "documents")
    )
    values = float(subject_values.mean()), float(reference_values.mean())
    return _delta("bits_per_byte", names, values, interval, set_name=score.source, role=score.role, items=len(first))


def _delta(
    measure: Literal["bits_per_byte", "accuracy_points", "accuracy_norm_points"],
    names: tuple[str, str],
    values: tuple[float, float],
    interval: Interval,
    *,
    set_name: str,
    role: Literal["domain", "general", "probe", "exam"],
    items: int,
) -> Delta:
    """Subject minus reference, in the order of `names` and `values`."""
    return Delta(
        measure=measure,
        set_name=set_name,
        role=role,
        subject=names[0],
        reference=names[1],
        subject_value=values[0],
        reference_value=values[1],
        difference=values[0] - values[1],
        interval=interval,
        relative_percent=relative_percent(*values),
        items=items,
        better=_better(interval, lower_is_better=measure == "bits_per_byte"),
    )


def _seed_values(sums: Floats) -> tuple[Floats, Floats]:
    """Bits per byte [samples, seeds] of subjects and of references, from columns bytes, subject, reference, subject, ..."""
    return intervals.bits_per_byte(sums[:, 1::2], sums[:, :1]), intervals.bits_per_byte(sums[:, 2::2], sums[:, :1])


def _seed_weights(num_seeds: int, config: CompareConfig, name: str) -> Floats:
    random = intervals.generator(config.seed, name)
    return random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=config.bootstrap_samples) / num_seeds


def _exam_delta(
    items: Sequence[tuple[list[ScoredItem], list[ScoredItem]]],
    names: tuple[str, str],
    exam: ExamScore,
    measure: Literal["accuracy_points", "accuracy_norm_points"],
    config: CompareConfig,
) -> Delta:
    field = _ACCURACIES[measure]
    identifiers = [item.id for item in items[0][0]]
    for pair in items:
        for other, run in zip(pair, names, strict=True):
            if [item.id for item in other] != identifiers:
                raise DataError(f"exam {exam.task}: {names[0]} and {run} were not scored on the same items", fix=_MISMATCH_FIX)
    values = 100 * np.array([[[getattr(item, field) for item in side] for side in pair] for pair in items], dtype=np.float64)
    subject_value, reference_value = (float(value) for value in values.mean(axis=(0, 2)))
    differences = values[:, 0] - values[:, 1]
    interval = _exam_interval(differences, config, f"delta/{exam.task}/{measure}")
    values_of = subject_value, reference_value
    return _delta(measure, names, values_of, interval, set_name=exam.task, role="exam", items=len(identifiers))


def _exam_interval(differences: Floats, config: CompareConfig, name: str) -> Interval:
    """Interval of the mean of paired differences [seeds, items], in points."""
    num_seeds, num_items = differences.shape
    kind = _kind("paired normal interval over items", num_seeds, "items")
    if num_seeds > 1:
        sums = intervals.resample_sums(
            differences.T, samples=config.bootstrap_samples, random=intervals.generator(config.seed, name)
        )
        resampled = (sums / num_items * _seed_weights(num_seeds, config, f"seeds/{name}")).sum(axis=1)
        return intervals.percentile_interval(resampled, confidence=config.confidence, kind=kind)
    mean = float(differences.mean())
    # One item gives no estimate of the spread: use the full range of points.
    stderr = float(differences.std(ddof=1)) / math.sqrt(num_items) if num_items > 1 else 100.0
    half = NormalDist().inv_cdf(0.5 + config.confidence / 2) * stderr
    return Interval(low=mean - half, high=mean + half, confidence=config.confidence, kind=kind)


def _kind(single: str, num_seeds: int, items: str) -> str:
    if num_seeds == 1:
        return f"{single}; {ONE_SEED}"
    return f"paired bootstrap over {num_seeds} seeds and {items}"


def relative_percent(value: float, reference: float) -> float:
    """Difference as a percentage of the reference; with a reference of 0, 100 in absolute value by convention."""
    if reference == 0:
        return 0.0 if value == 0 else math.copysign(100.0, value)
    return 100 * (value - reference) / reference


def _better(interval: Interval, *, lower_is_better: bool) -> bool | None:
    if interval.low <= 0 <= interval.high:
        return None
    return (interval.high < 0) == lower_is_better


def _documents(scored: Scored, source: str) -> list[ScoredDocument]:
    for score in reported_sets(scored.record):
        if score.source == source:
            return read_document_scores(scored.folder / score.documents_path)
    raise DataError(f"{scored.record.run} was not scored on the test set of {source}", fix=_MISMATCH_FIX)


def _items(scored: Scored, task: str) -> list[ScoredItem]:
    for exam in scored.record.exams:
        if exam.task == task:
            return read_item_scores(scored.folder / exam.items_path)
    raise DataError(f"{scored.record.run} was not scored on the exam {task}", fix=_MISMATCH_FIX)


def _check_same_documents(
    first: Sequence[ScoredDocument], other: Sequence[ScoredDocument], source: str, run: str, other_run: str
) -> None:
    if [document.identity for document in first] != [document.identity for document in other]:
        raise DataError(f"{source}: {run} and {other_run} were not scored on the same documents", fix=_MISMATCH_FIX)
    for ours, theirs in zip(first, other, strict=True):
        if (ours.bytes, ours.tokens) != (theirs.bytes, theirs.tokens):
            raise DataError(
                f"{source}: document {ours.id!r} ({ours.identity}) was scored over {ours.bytes} bytes in {ours.tokens} tokens "
                f"by {run}, "
                f"over {theirs.bytes} bytes in {theirs.tokens} tokens by {other_run}",
                fix=_MISMATCH_FIX,
            )
