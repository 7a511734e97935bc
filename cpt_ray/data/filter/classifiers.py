"""Train a classifier, score a source with it, and count what its thresholds find: the verbs of classifiers, on Ray Data.

Flow: documents -> `train_classifier` -> classifier folder -> `score_source` -> scores folder; scores and packed shards ->
`measure_yield`. Memory on the driver: the held-out examples' probabilities.

Guarantee: scores depend on documents and classifier only, so another threshold scores nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpt_ray.config.sections.classifiers import ClassifierConfig, ExamplesConfig
from cpt_ray.data.filter import classifier_tasks, derive_tasks
from cpt_ray.data.filter.classifier_tasks import ExampleUnit, FitUnit, ScoreUnit, refuse_few
from cpt_ray.data.filter.classify.calibrate import Calibration
from cpt_ray.data.filter.classify.measures import in_source, measure
from cpt_ray.data.filter.derive_tasks import YieldUnit
from cpt_ray.data.run.merge import unit_files
from cpt_ray.data.run.pipeline import DataJob
from cpt_ray.data.run.units import keep_bytes
from cpt_ray.edges import store
from cpt_ray.records import (
    ClassifierRecord,
    DocumentsRecord,
    FittedRecord,
    HeldOutRecord,
    Made,
    ScoresRecord,
    ShardManifest,
    ThresholdYield,
    YieldRecord,
)

THRESHOLDS = tuple(step / 100 for step in range(101))
"""The thresholds of a yield curve, beside those that the study uses."""


def train_classifier(
    job: DataJob,
    documents: Made[DocumentsRecord],
    held_out: Made[HeldOutRecord],
    classifier: ClassifierConfig,
    exam_items: Path | None,
) -> ClassifierRecord:
    """Choose examples, train the model if it is trained here, calibrate it, and measure it.

    Raises:
        DataError: If a class has too few examples, or the held-out F1 is not above chance.
        ConfigError: If a model that is loaded cannot be.
    """
    folder, prepare = job.folder, job.prepare
    named = {*classifier.positive.sources, *classifier.negative.sources}
    items = None
    if exam_items is not None and prepare.decontaminate.enabled:
        items = keep_bytes(folder, "inputs/exam-items", ".jsonl", exam_items.read_bytes()).path
    tasks = [
        ExampleUnit(
            **files,
            # A seed source has no held-out set; its documents are drawn by no one.
            share=held_out.record.shares.get(files["source"], 0.0),
            floor=held_out.record.floors,
            classifier=classifier.name,
            positive=_labels(classifier.positive, files["source"]),
            negative=_labels(classifier.negative, files["source"]),
            rates=(1.0, 1.0),
            exam_items=items,
        )
        for files in unit_files(documents.folder, documents.record.units)
        if files["source"] in named
    ]
    counts = _count_classes(tasks, documents.folder)
    for key, count in zip(("positive", "negative"), counts, strict=True):
        refuse_few(classifier.name, key, count)
    rates = tuple(min(1.0, classifier.max_documents / count) for count in counts)
    tasks = [task.model_copy(update={"rates": rates}) for task in tasks]
    context = job.context(documents=documents.folder, held_out=held_out.folder)
    chosen = job.run("examples", classifier_tasks.choose_examples, tasks, context)
    fit = FitUnit(unit=classifier.name, source="", classifier=classifier, examples=tuple(chosen.paths("examples")))
    fitted = job.run("fit", classifier_tasks.fit_classifier, [fit], context)
    (path,), (test,), weights = fitted.paths("fitted"), fitted.paths("test"), [entry.path for entry in fitted.files("weights")]
    return ClassifierRecord(
        classifier=classifier.name,
        model=classifier.model,
        fitted=FittedRecord.load(store.fetched(folder / path)),
        reports=tuple(report.check() for report in chosen.reports),
        weights_path=weights[0] if weights else None,
        test_path=test,
        task_pids={"examples": chosen.pids, "fit": fitted.pids},
    )


def score_source(
    job: DataJob,
    documents: Made[DocumentsRecord],
    trained: Made[ClassifierRecord],
    classifier: ClassifierConfig,
    source: str,
) -> ScoresRecord:
    """Score every document of a source that is no duplicate."""
    fitted = trained.record.fitted
    tasks = [
        ScoreUnit(
            **files,
            classifier=classifier,
            weights=trained.record.weights_path,
            calibration=Calibration(fitted.slope, fitted.offset),
        )
        for files in unit_files(documents.folder, documents.record.units)
        if files["source"] == source
    ]
    context = job.context(documents=documents.folder, classifier=trained.folder)
    scored = job.run("score", classifier_tasks.score_documents, tasks, context)
    return ScoresRecord(
        classifier=classifier.name,
        source=source,
        documents=scored.total("documents"),
        bytes=scored.total("bytes"),
        cpu_s=scored.total("cpu_ms") / 1000,
        units=dict(zip((task.unit for task in tasks), scored.paths("scores"), strict=True)),
        task_pids=scored.pids,
    )


def measure_yield(
    job: DataJob,
    scores: Made[ScoresRecord],
    shards: Made[ShardManifest],
    trained: Made[ClassifierRecord],
    used: Sequence[float],
) -> YieldRecord:
    """Count the packed documents and tokens of a source from each threshold on.

    Args:
        job: Settings and folder.
        scores: Scores of the source.
        shards: Its packed documents.
        trained: The classifier that gave the scores.
        used: Thresholds that derived sources use.
    """
    thresholds = tuple(sorted({*THRESHOLDS, *used}))
    tasks = [
        YieldUnit(
            unit=entry.unit,
            source=entry.source,
            index=entry.index_path,
            scores=scores.record.units[entry.unit],
            thresholds=thresholds,
        )
        for entry in shards.record.of_source(scores.record.source)
    ]
    counted = job.run("yield", derive_tasks.count_yield, tasks, job.context(scores=scores.folder, shards=shards.folder))
    documents, tokens = np.sum(
        [np.load(store.fetched(job.folder / path), allow_pickle=False) for path in counted.paths("counts")], axis=0
    )
    test = pq.read_table(store.fetched(trained.folder / trained.record.test_path))
    probabilities, positive = test["probability"].to_numpy(), test["positive"].to_numpy()

    def at(threshold: float) -> ThresholdYield:
        place, held_out = thresholds.index(threshold), measure(probabilities, positive, threshold)
        share, precision = in_source(held_out, float(documents[place] / documents[0]))
        counts = {"documents": int(documents[place]), "tokens": int(tokens[place])}
        return ThresholdYield(threshold=threshold, **counts, held_out=held_out, share=share, precision=precision)

    return YieldRecord(
        classifier=scores.record.classifier,
        source=scores.record.source,
        thresholds=thresholds,
        documents=tuple(documents.tolist()),
        tokens=tuple(tokens.tolist()),
        at_half=at(0.5),
        used=tuple(at(threshold) for threshold in sorted(set(used))),
    )


def _labels(examples: ExamplesConfig, source: str) -> tuple[str, ...] | None:
    return examples.labels if source in examples.sources else None


def _count_classes(tasks: Sequence[ExampleUnit], documents: Path) -> tuple[int, int]:
    """Documents of each class that are no duplicates, held-out ones included; reads no text."""
    totals = {True: 0, False: 0}
    for task in tasks:
        labels = pq.read_table(store.fetched(documents / task.clean), columns=["label"])["label"]
        kept = pq.read_table(store.fetched(documents / task.near_duplicates), columns=["reason"])["reason"].is_null()
        for entry in pc.value_counts(labels.filter(kept)).to_pylist():
            positive = task.is_positive(entry["values"])
            if positive is not None:
                totals[positive] += entry["counts"]
    return totals[True], totals[False]
