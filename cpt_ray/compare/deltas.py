"""Paired differences between two cells of a study: the same documents, the same items, subject minus reference.

In: `EvalRecord`s with their per-document and per-item files. Out: `Delta`s, each with its interval (`evaluate.intervals`) and
whether it is measurable (`compare.judgment`). Seeds are paired, and widen it by their spread.
Guarantee: two scores are never subtracted unless they cover the same documents, bytes and items.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from cpt_ray.compare.judgment import judge
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.edges.storage import hash_file
from cpt_ray.errors import ArtifactError, DataError
from cpt_ray.evaluate import intervals
from cpt_ray.evaluate.exam.scores import VALUES
from cpt_ray.evaluate.intervals import Floats
from cpt_ray.evaluate.per_item import ScoredItem, ScoredSet, read_document_scores, read_item_scores, sum_by_group
from cpt_ray.records import Artifact, Delta, EvalRecord, ExamScore, HeldOutScore, Measure

_KEPT_BYTES = 1_000_000
"""Of the largest score file that is kept in memory."""
ONE_SEED = "evaluation items only, not training randomness"

_MISMATCH_FIX = "delete both evaluation folders and run `cpt-ray evaluate` again, so that both are scored on the same items"
_DAMAGED_FIX = "delete the evaluation folders of both and run `cpt-ray evaluate` again"
_EDITED_FIX = "a score file was edited or cut: delete the evaluation's folder and run `cpt-ray evaluate` again"
_OF_EXAMS: dict[Measure, tuple[str, str, float]] = {
    "accuracy_points": ("accuracy", "accuracy", 100.0),
    "accuracy_norm_points": ("accuracy_norm", "accuracy_norm", 100.0),
    "order_accuracy_points": ("order_accuracy", "order_accuracy", 100.0),
    "order_changes_points": ("order_changes", "order_changes", 100.0),
    "letter_nats": ("letter_perplexity", "letter_nats", 1.0),
    "margin_nats": ("margin", "margin", 1.0),
}
"""Measure to the field of `ExamScore` that is None where an exam does not have it, its key in `VALUES`, and its scale."""


_Unjudged = tuple[Delta, intervals.Estimate]


class Scored(NamedTuple):
    """One model's scores, and the folder of its per-item files."""

    record: EvalRecord
    folder: Path


@dataclass(frozen=True)
class Cell:
    """One point of the study's grid with all its seeds: the base (no arm), an arm at a budget, or a merge of one."""

    model: str
    arm: str | None
    budget_tokens: int | None
    scored: tuple[Scored, ...]
    """In ascending order of seeds."""
    suffix: str = ""
    """Of a merge: what its name adds to that of the budget it was made of."""

    @property
    def name(self) -> str:
        """The run's name, or the cell's if there are several seeds."""
        if len(self.scored) == 1:
            return self.scored[0].record.run
        return f"{self.model}-{self.arm}-{self.budget_tokens}{self.suffix} (mean of {len(self.scored)} seeds)"


class PairedDeltas(NamedTuple):
    """The differences between two cells: over all seeds and, if there are several, per seed."""

    overall: tuple[Delta, ...]
    by_seed: tuple[Delta, ...]


def cell_deltas(subject: Cell, reference: Cell, config: CompareConfig, *, same_tokens: bool = True) -> PairedDeltas:
    """Compare two cells on every test set and exam of the subject.

    A base is compared with each seed; two trained cells are paired by seed, and cannot be compared without a common one.

    Args:
        subject: The cell that is judged.
        reference: The cell that it is compared with.
        config: The `compare` section.
        same_tokens: Whether both must have cut documents into the same tokens, as within a study.

    Returns:
        The differences; both tuples are empty if the cells have no seed in common.

    Raises:
        DataError: If the two were not scored on the same documents, bytes or items, or a score is not a number.
    """
    if reference.arm is None:
        pairs = [(scored, reference.scored[0]) for scored in subject.scored]
    else:
        by_seed = {scored.record.seed: scored for scored in reference.scored}
        pairs = [(scored, by_seed[scored.record.seed]) for scored in subject.scored if scored.record.seed in by_seed]
    if not pairs:
        return PairedDeltas((), ())
    singly = [_deltas([pair], (pair[0].record.run, pair[1].record.run), config, same_tokens) for pair in pairs]
    if len(pairs) == 1:
        return PairedDeltas(tuple(singly[0]), ())
    # A seed of one side only is in no pair, and so not in what the mean is called.
    ours = replace(subject, scored=tuple(left for left, _ in pairs))
    theirs = reference if reference.arm is None else replace(reference, scored=tuple(right for _, right in pairs))
    return PairedDeltas(
        tuple(_deltas(pairs, (ours.name, theirs.name), config, same_tokens)),
        tuple(delta for deltas in singly for delta in deltas),
    )


def reported_sets(record: EvalRecord) -> list[HeldOutScore]:
    """The scores that are reported: those on the test part. Validation is for selection."""
    return [score for score in record.held_out if score.part == "test"]


def _deltas(
    pairs: Sequence[tuple[Scored, Scored]], names: tuple[str, str], config: CompareConfig, same_tokens: bool
) -> list[Delta]:
    sets = [_held_out_delta(pairs, names, score, config, same_tokens) for score in reported_sets(pairs[0][0].record)]
    deltas = judge(sets, config.confidence)
    exams = [exam for exam in pairs[0][0].record.exams if all(_has(one, exam.task) for pair in pairs for one in pair)]
    items = {
        exam.task: [(items_of(subject, exam.task), items_of(reference, exam.task)) for subject, reference in pairs]
        for exam in exams
    }
    for measure, (field, _, _) in _OF_EXAMS.items():
        known = [exam for exam in exams if getattr(exam, field) is not None]
        found = [_exam_delta(items[exam.task], names, exam, measure, config) for exam in known]
        deltas += judge(found, config.confidence)
    return deltas


def _has(scored: Scored, task: str) -> bool:
    """Whether a model has the score of an exam; one that lacks it although nothing failed is an error later on."""
    return not scored.record.failed or any(exam.task == task for exam in scored.record.exams)


def _held_out_delta(
    pairs: Sequence[tuple[Scored, Scored]],
    names: tuple[str, str],
    score: HeldOutScore,
    config: CompareConfig,
    same_tokens: bool,
) -> _Unjudged:
    documents = [(documents_of(subject, score.source), documents_of(reference, score.source)) for subject, reference in pairs]
    first = documents[0][0]
    for pair in documents:
        for other, run in zip(pair, names, strict=True):
            _check_same_documents(first, other, score.source, names[0], run, same_tokens=same_tokens)
    bits = first.bytes * math.log(2)
    nats = np.array([[side.nats for side in pair] for pair in documents])
    return _delta("bits_per_byte", names, nats, bits, config, set_name=score.source, role=score.role, unit="documents")


def _exam_delta(
    items: Sequence[tuple[list[ScoredItem], list[ScoredItem]]],
    names: tuple[str, str],
    exam: ExamScore,
    measure: Measure,
    config: CompareConfig,
) -> _Unjudged:
    _, key, scale = _OF_EXAMS[measure]
    identifiers = [item.id for item in items[0][0]]
    for pair in items:
        for other, run in zip(pair, names, strict=True):
            if [item.id for item in other] != identifiers:
                raise DataError(f"exam {exam.task}: {names[0]} and {run} were not scored on the same items", fix=_MISMATCH_FIX)
    of = VALUES[key]
    values = scale * np.array([[[of(item) for item in side] for side in pair] for pair in items], dtype=np.float64)
    sums, counts, unit = sum_by_group(values, items[0][0])
    delta, found = _delta(
        measure, names, sums, counts, config, set_name=exam.task, role="exam", unit=unit, items=len(identifiers)
    )
    return delta.model_copy(update={"suite": exam.suite}), found


def _delta(
    measure: Measure,
    names: tuple[str, str],
    scores: Floats,
    weights: Floats,
    config: CompareConfig,
    *,
    set_name: str,
    role: Literal["domain", "general", "probe", "exam"],
    unit: str,
    items: int | None = None,
) -> _Unjudged:
    """Subject minus reference: `scores` [seeds, 2, units] in the order of `names`, summed and divided by the sum of `weights`.

    Raises:
        DataError: If a score is not finite, or all weights are 0.
    """
    seeds = len(scores)
    # Named after the set, not the runs: all differences on a set use the same subsets, and adding a run moves none of them.
    random = config.seed, f"delta/{set_name}/{measure}"
    try:
        found = intervals.estimate(scores[:, 0] - scores[:, 1], weights, samples=config.subsets, random=random)
    except ValueError as error:
        raise DataError(f"{set_name}: {names[0]} against {names[1]}: {error}", fix=_DAMAGED_FIX) from None
    subject_value, reference_value = (float(scores[:, side].sum(axis=-1).mean() / weights.sum()) for side in (0, 1))
    kind = f"over {unit}; {ONE_SEED}" if seeds == 1 else f"over {unit} and {seeds} seeds"
    p_value = found.p_value()
    delta = Delta(
        measure=measure,
        set_name=set_name,
        role=role,
        subject=names[0],
        reference=names[1],
        subject_value=subject_value,
        reference_value=reference_value,
        difference=subject_value - reference_value,
        interval=found.interval(config.confidence, kind),
        missing=found.missing,
        p_value=p_value,
        adjusted_p_value=p_value,
        smallest_effect=None,
        relative_percent=_relative_percent(measure, subject_value, reference_value),
        items=items or len(weights),
        seeds=seeds,
        better=None,
    )
    return delta, found


def _relative_percent(measure: Measure, value: float, reference: float) -> float | None:
    if measure == "margin_nats":
        return None
    if measure == "letter_nats":
        return 100 * math.expm1(value - reference)
    return relative_percent(value, reference)


def relative_percent(value: float, reference: float) -> float:
    """Difference as a percentage of the reference; with a reference of 0, 100 in absolute value by convention."""
    if reference == 0:
        return 0.0 if value == 0 else math.copysign(100.0, value)
    return 100 * (value - reference) / reference


def documents_of(scored: Scored, source: str) -> ScoredSet:
    """The scores of a test set's documents.

    Raises:
        DataError: If the model was not scored on it, or the file is missing or damaged.
        ArtifactError: If the file is not as it was written.
    """
    for score in reported_sets(scored.record):
        if score.source == source:
            _require_unchanged(scored.folder, score.documents_path)
            return _documents_in(scored.folder / score.documents_path, score)
    raise DataError(f"{scored.record.run} was not scored on the test set of {source}", fix=_MISMATCH_FIX)


def _documents_in(path: Path, score: HeldOutScore) -> ScoredSet:
    """The documents of a file; the last files are kept, since every arm is paired with the same base and controls."""
    if not path.is_file() or (known := path.stat()).st_size > _KEPT_BYTES:
        return _read_documents(path, score)
    return _kept_documents(path, (known.st_mtime_ns, known.st_size), score)


@functools.lru_cache(maxsize=64)
def _kept_documents(path: Path, _version: tuple[int, int], score: HeldOutScore) -> ScoredSet:
    """As read when the file was last changed at that time and had that size."""
    return _read_documents(path, score)


def _read_documents(path: Path, score: HeldOutScore) -> ScoredSet:
    """Read a file, and refuse documents that do not add up to their record."""
    found = ScoredSet(tuple(read_document_scores(path)))
    sums = {
        "documents": (len(found.rows), score.documents),
        "bytes": (float(found.bytes.sum()), score.scored_bytes),
        "nats": (float(found.nats.sum()), score.nats),
    }
    _require_sums(path, sums)
    return found


def _require_sums(path: Path, sums: Mapping[str, tuple[float, float]]) -> None:
    """Refuse scores whose sums are not those of their record: one of the two files was edited or cut since they were made."""
    for name, (summed, recorded) in sums.items():
        # What is not finite has a message of its own, which names the models.
        if math.isfinite(summed) and not math.isclose(summed, recorded, rel_tol=1e-6, abs_tol=1e-9):
            raise DataError(f"{path}: {summed:.10g} {name}, but {recorded:.10g} in {EvalRecord.FILE}", fix=_EDITED_FIX)


def items_of(scored: Scored, task: str) -> list[ScoredItem]:
    """The scores of an exam's items.

    Raises:
        DataError: If the model was not scored on it, or the file is missing or damaged.
        ArtifactError: If the file is not as it was written.
    """
    for exam in scored.record.exams:
        if exam.task == task:
            path = scored.folder / exam.items_path
            _require_unchanged(scored.folder, exam.items_path)
            items = read_item_scores(path)
            right = math.fsum(item.accuracy for item in items)
            _require_sums(path, {"items": (len(items), exam.items), "correct items": (right, exam.accuracy * exam.items)})
            return items
    raise DataError(f"{scored.record.run} was not scored on the exam {task}", fix=_MISMATCH_FIX)


def _require_unchanged(folder: Path, name: str) -> None:
    """Refuse a score file, or the record that names it, unless it is what the artifact lists, where there is one."""
    if not (folder / Artifact.FILE).is_file():
        return
    listed = _listed(folder, (folder / Artifact.FILE).stat().st_mtime_ns)
    for path in (EvalRecord.FILE, name):
        if path in listed and (folder / path).is_file() and _hash_of(folder / path) != listed[path]:
            raise ArtifactError(f"{folder / path}: not the file that scoring wrote: its sha256 differs", fix=_EDITED_FIX)


def _hash_of(path: Path) -> str:
    """The sha256 of a file, computed once while it stays as it is: the base's files are in every pair."""
    return _kept_hash(path, (path.stat().st_mtime_ns, path.stat().st_size))


@functools.lru_cache(maxsize=4096)
def _kept_hash(path: Path, _version: tuple[int, int]) -> str:
    return hash_file(path)


@functools.lru_cache(maxsize=256)
def _listed(folder: Path, written: int) -> dict[str, str]:  # noqa: ARG001 -- an artifact that was built again is read again
    """The hashes of an artifact's files, by path."""
    return {entry.path: entry.sha256 for entry in Artifact.of(folder).files}


def _check_same_documents(
    first: ScoredSet,
    other: ScoredSet,
    source: str,
    run: str,
    other_run: str,
    *,
    same_tokens: bool,
) -> None:
    if first.identities != other.identities:
        raise DataError(f"{source}: {run} and {other_run} were not scored on the same documents", fix=_MISMATCH_FIX)
    differing = (first.bytes != other.bytes) | (same_tokens & (first.tokens != other.tokens))
    if differing.any():
        ours, theirs = (side.rows[int(differing.argmax())] for side in (first, other))
        raise DataError(
            f"{source}: document {ours.id!r} ({ours.identity}) was scored over {ours.bytes} bytes in {ours.tokens} tokens "
            f"by {run}, over {theirs.bytes} bytes in {theirs.tokens} tokens by {other_run}",
            fix=_MISMATCH_FIX,
        )
