"""Worker tasks of classifiers: choose examples, fit a model to them, score the documents of a unit.

Composed by `classifiers`. Files: `examples/` (Parquet: positive, share, text), `weights/` (`.npz`), `test/` (Parquet:
positive, probability), `fitted/` (a `FittedRecord`), `scores/` (Parquet: identity, probability). Memory: one unit's documents,
the model, and while fitting 8 bytes per example; the indices of held-out and exam text once per process.

Guarantee: no example is a held-out document, holds half of one, or holds an exam item.
"""

from __future__ import annotations

import functools
import heapq
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.data import decontaminate, split
from cpt_ray.data.filter.classify.calibrate import Calibration, calibrate, calibration_error
from cpt_ray.data.filter.classify.measures import f1_of_chance, measure, measure_auc
from cpt_ray.data.filter.classify.model import Classifier, Example, Parts, cut_parts, is_trained, margins, scorer_of, train
from cpt_ray.data.run.document_tasks import write_parquet
from cpt_ray.data.run.training_tasks import DrawUnit, KeptUnit, kept_batches, kept_documents, load_containment, load_exams
from cpt_ray.data.run.units import Outputs, Tally, UnitContext, UnitTask, finish_unit, keep_bytes, write_content
from cpt_ray.data.words import hash_words, seeded_share
from cpt_ray.edges import store
from cpt_ray.errors import DataError
from cpt_ray.records import ClassifierMeasures, ExampleCounts, FileEntry, FittedRecord, Measured, UnitFacts, UnitReport

FEWEST_EXAMPLES = 20
OTHER_LABEL = "other_label"
NOT_SAMPLED = "not_sampled"
_EXAMPLES = pa.schema([("positive", pa.bool_()), ("share", pa.float64()), ("text", pa.large_string())])
_SCORES = pa.schema([("identity", pa.string()), ("probability", pa.float32())])
_READ_ROWS = 256


class ExampleUnit(DrawUnit):
    """Choose the examples of a clean unit."""

    classifier: str
    positive: tuple[str, ...] | None
    """Labels of the class; none: all documents; None: the source has no documents of this class."""
    negative: tuple[str, ...] | None
    rates: tuple[float, float]
    """Share of positive and of negative documents to take."""
    exam_items: str | None

    def is_positive(self, label: str | None) -> bool | None:
        """The class of a document with a label; None if it has neither. What is positive is never negative."""
        if self.positive is not None and (not self.positive or label in self.positive):
            return True
        return False if self.negative is not None and (not self.negative or label in self.negative) else None


class FitUnit(UnitTask):
    """Fit, calibrate and test a classifier on the examples of all units."""

    classifier: ClassifierConfig
    examples: tuple[str, ...]


class ScoreUnit(KeptUnit):
    """Score the documents of a clean unit; `weights` is in the `classifier` input."""

    classifier: ClassifierConfig
    weights: str | None
    calibration: Calibration


def choose_examples(task: ExampleUnit, context: UnitContext) -> UnitReport:
    """Write the examples of a unit, in seeded order."""
    prepare = context.prepare
    tally = Tally("examples", task.source)
    index = load_containment(context.inputs["held_out"])
    rule = prepare.decontaminate
    items = str(context.file(task.exam_items)) if task.exam_items else None
    exams = load_exams(items, rule.ngram_words, rule.min_match_ratio)
    chosen: list[tuple[bool, float, str]] = []
    for row in kept_documents(task, context, ("text", "bytes", "label")):
        text, component = row["text"], row["component"]
        positive = task.is_positive(row["label"])
        reason = None
        if positive is None:
            reason = OTHER_LABEL
        elif task.part(component, prepare) is not None:
            reason = split.REASON
        elif seeded_share("classifier sample", prepare.seed, component) >= task.rates[0 if positive else 1]:
            reason = NOT_SAMPLED
        else:
            hashes = hash_words(text)
            if index.contains(hashes, prepare.held_out.containment_share):
                reason = split.OVERLAP_REASON
            elif exams.find(hashes):
                reason = decontaminate.REASON
        if reason is not None or positive is None:
            tally.drop(str(reason), row["bytes"])
            continue
        tally.keep(row["bytes"])
        # By component, so that near-duplicates are used for the same thing.
        chosen.append((positive, seeded_share("classifier part", prepare.seed, component), text))
    chosen.sort(key=lambda example: seeded_share("classifier order", prepare.seed, example[1], example[2][:200]))
    columns = list(zip(*chosen, strict=True)) or [(), (), ()]
    table = pa.table([pa.array(column, type=field.type) for column, field in zip(columns, _EXAMPLES, strict=True)], _EXAMPLES)
    entry = write_content(context.root, f"examples/{task.unit}", ".parquet", lambda path: write_parquet(table, path))
    return finish_unit(task, context, "examples", {"examples": entry}, UnitFacts(reports=(tally.report(),)))


def fit_classifier(task: FitUnit, context: UnitContext) -> UnitReport:
    """Train the model if it is trained here; calibrate it, and measure it on examples that were used for neither.

    Raises:
        DataError: If a class has too few examples, or the held-out F1 is not above chance.
    """
    config, seed = task.classifier, context.prepare.seed
    stored = _Stored(store.fetched_files(context.root / path for path in task.examples), seed)
    counts = stored.cut(trained=is_trained(config))
    for name, count in zip(("positive", "negative"), counts, strict=True):
        refuse_few(config.name, name, count.total)
        _refuse_unsplit(config, name, count)
    weights: FileEntry | None = None
    if is_trained(config):
        sizes = {"num_positive": counts[0].train, "num_negative": counts[1].train}
        fitted = train(config, lambda number: stored.read("train", number), **sizes, seed=seed)
        weights = write_content(context.root, f"weights/{task.unit}", ".npz", fitted.save)
    score = scorer_of(config, context.root / weights.path if weights else None)
    values, positive = margins(score, stored.read("calibrate", 0))
    calibration = calibrate(values, positive)
    values, held_out = margins(score, stored.read("test", 0))
    probabilities = calibration.probabilities(values)
    at_half, auc = measure(probabilities, held_out, 0.5), measure_auc(probabilities, held_out)
    _refuse_chance(config.name, at_half, auc)
    record = FittedRecord(
        positive=counts[0],
        negative=counts[1],
        slope=calibration.slope,
        offset=calibration.offset,
        prior=float(positive.mean()),
        calibration_error=calibration_error(probabilities, held_out),
        auc=auc,
        at_half=at_half,
    )
    table = pa.table({"positive": held_out, "probability": probabilities})
    outputs: Outputs = {
        "weights": [weights] if weights else [],
        "test": write_content(context.root, f"test/{task.unit}", ".parquet", lambda path: write_parquet(table, path)),
        "fitted": keep_bytes(context.root, f"fitted/{task.unit}", ".json", record.to_json().encode()),
    }
    return finish_unit(task, context, "fit", outputs)


def score_documents(task: ScoreUnit, context: UnitContext) -> UnitReport:
    """Write the probability of every document of a unit."""
    started = time.process_time()
    weights = None if task.weights is None else str(context.input("classifier", task.weights))
    classifier = _classifier(task.classifier.model_dump_json(), weights, task.calibration)
    tables = [_SCORES.empty_table()]
    num_bytes = 0
    for batch in kept_batches(task, context, ("identity", "text", "bytes")):
        probabilities = classifier.probabilities(batch.column("text").to_pylist())
        tables.append(pa.table([batch.column("identity"), pa.array(probabilities, type=pa.float32())], schema=_SCORES))
        num_bytes += sum(batch.column("bytes").to_pylist())
    table = pa.concat_tables(tables)
    entry = write_content(context.root, f"scores/{task.unit}", ".parquet", lambda path: write_parquet(table, path))
    spent = round(1000 * (time.process_time() - started))
    counts = {"documents": len(table), "bytes": num_bytes, "cpu_ms": spent}
    return finish_unit(task, context, "score", {"scores": entry}, UnitFacts(counts=counts))


def refuse_few(classifier: str, key: str, documents: int) -> None:
    """Refuse a class with too few documents.

    Raises:
        DataError: Naming the class, and whether it is empty.
    """
    place = f"classifier {classifier}"
    if documents == 0:
        raise DataError(
            f"{place} has one class: there is no {key} example",
            fix=f"check classifiers.{classifier}.{key}: its sources, and its labels as they are written in the text",
        )
    if documents < FEWEST_EXAMPLES:
        raise DataError(
            f"{place} has {documents} {key} examples, and needs at least {FEWEST_EXAMPLES}; held-out documents and those with "
            "exam items are none",
            fix=f"add documents to the sources of classifiers.{classifier}.{key}",
        )


def _refuse_unsplit(config: ClassifierConfig, key: str, counts: ExampleCounts) -> None:
    """Refuse a class whose examples are in too few near-duplicate components for every use: a component has one."""
    uses = ("train", "calibrate", "test") if is_trained(config) else ("calibrate", "test")
    for use in uses:
        if not getattr(counts, use):
            raise DataError(
                f"classifier {config.name}: none of its {counts.total} {key} examples is left to {use} it; near-duplicates of "
                "each other have one use",
                fix=f"add documents that differ to the sources of classifiers.{config.name}.{key}",
            )


def _refuse_chance(classifier: str, measured: ClassifierMeasures, auc: Measured) -> None:
    chance = f1_of_chance(measured.positives, measured.negatives)
    if measured.f1.value <= chance or auc.interval.low <= 0.5:
        raise DataError(
            f"classifier {classifier}: its held-out F1 is {measured.f1.value:.2f} and its AUC {auc.value:.2f} "
            f"({auc.interval.low:.2f} to {auc.interval.high:.2f}), which is not above chance: calling everything positive has "
            f"an F1 of {chance:.2f}, and guessing an AUC of 0.50",
            fix=f"give classifiers.{classifier} examples that differ, or more of them",
        )


@functools.lru_cache(maxsize=2)
def _classifier(config: str, weights: str | None, calibration: Calibration) -> Classifier:
    """The classifier, loaded once per process."""
    settings = ClassifierConfig.model_validate_json(config)
    return Classifier(scorer_of(settings, Path(weights) if weights else None), calibration)


class _Stored:
    """The examples of all units on disk, read again in each epoch; nothing but their shares is held."""

    def __init__(self, files: Sequence[Path], seed: int) -> None:
        self._files, self._seed = files, seed
        self._parts: dict[bool, Parts] = {}

    def cut(self, *, trained: bool) -> tuple[ExampleCounts, ExampleCounts]:
        """Decide what examples are used for; the counts of positive and of negative ones."""
        tables = [pq.read_table(path, columns=["positive", "share"]) for path in self._files]
        table = pa.concat_tables(tables) if tables else _EXAMPLES.empty_table()
        positive, shares = table["positive"].to_numpy(), table["share"].to_numpy()
        counts = []
        for kind in (True, False):
            of_kind = shares[positive == kind]
            self._parts[kind] = cut_parts(of_kind, trained=trained)
            names = self._parts[kind].names(of_kind)
            counts.append(ExampleCounts(**{part: int(np.sum(names == part)) for part in ExampleCounts.model_fields}))
        return counts[0], counts[1]

    def read(self, part: str, epoch: int) -> Iterator[Example]:
        """The examples of a part, both classes evenly spread, in another order of files each epoch."""
        spread = [self._spread(part, epoch, kind) for kind in (True, False)]
        for _, example in heapq.merge(*spread, key=lambda entry: entry[0]):
            yield example

    def _spread(self, part: str, epoch: int, kind: bool) -> Iterator[tuple[float, Example]]:
        """The examples of a class with places evenly spread over [0, 1)."""
        total = sum(int(np.sum(self._wanted(path, part, kind))) for path in self._files)
        for number, text in enumerate(self._texts(part, epoch, kind)):
            yield number / total, (text, kind)

    def _texts(self, part: str, epoch: int, kind: bool) -> Iterator[str]:
        order = sorted(self._files, key=lambda path: seeded_share("classifier epoch", self._seed, epoch, path.name))
        for path in order:
            wanted, first = self._wanted(path, part, kind), 0
            for batch in pq.ParquetFile(path).iter_batches(batch_size=_READ_ROWS, columns=["text"]):
                mask = wanted[first : first + len(batch)]
                first += len(batch)
                yield from batch.column("text").filter(pa.array(mask)).to_pylist()

    def _wanted(self, path: Path, part: str, kind: bool) -> npt.NDArray[np.bool_]:
        table = pq.read_table(path, columns=["positive", "share"])
        names = self._parts[kind].names(table["share"].to_numpy())
        found: npt.NDArray[np.bool_] = (table["positive"].to_numpy() == kind) & (names == part)
        return found
