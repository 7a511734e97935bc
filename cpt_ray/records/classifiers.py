"""Records of classifiers and what is chosen by them: measures, scores, yield, selections, what arms share."""

from __future__ import annotations

from typing import Literal

from cpt_ray.records.base import Record
from cpt_ray.records.data import StageReport
from cpt_ray.records.scores import Interval


class Measured(Record):
    """A measured value and its interval."""

    value: float
    interval: Interval


class ClassifierMeasures(Record):
    """What a classifier gets right on held-out examples, called positive from a threshold on."""

    threshold: float
    positives: int
    """Held-out examples of the domain; `missed` of them were not called positive."""
    negatives: int
    """Other held-out examples; `false_positives` of them were called positive."""
    false_positives: int
    missed: int
    precision: Measured
    """At the share of positives among these examples, which is not that of a source: see `YieldRecord`."""
    recall: Measured
    f1: Measured


class ExampleCounts(Record):
    """Examples of one class by what they were used for."""

    train: int
    calibrate: int
    test: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.train + self.calibrate + self.test


class FittedRecord(Record):
    """What fitting, calibrating and testing a classifier found."""

    positive: ExampleCounts
    negative: ExampleCounts
    slope: float
    offset: float
    """Probability = 1 / (1 + exp(-(slope * margin + offset)))."""
    prior: float
    """Share of positives among the examples it was calibrated on: its probabilities hold at this share."""
    calibration_error: float
    """Mean gap between probability and share of positives over ten bins of held-out examples."""
    auc: Measured
    at_half: ClassifierMeasures
    """On held-out examples, at a threshold of 0.5."""


class ClassifierRecord(Record):
    """A classifier: what it was trained on, its calibration, and how well it does on held-out examples.

    `test_path` names a Parquet file {positive, probability} of the held-out examples, from which other thresholds are measured.
    """

    FILE = "classifier.json"

    classifier: str
    model: str
    fitted: FittedRecord
    reports: tuple[StageReport, ...]
    """Per source: documents kept as examples, and why others were not."""
    weights_path: str | None
    """Of a model that was trained; relative to the artifact's folder."""
    test_path: str
    task_pids: dict[str, tuple[int, ...]]


class ScoresRecord(Record):
    """The scores of all documents of a source: Parquet {identity, probability} per clean unit."""

    FILE = "scores.json"

    classifier: str
    source: str
    documents: int
    bytes: int
    cpu_s: float
    """Processor time of scoring, reading and writing included."""
    units: dict[str, str]
    """Clean unit to file, relative to the artifact's folder."""
    task_pids: tuple[int, ...]


class ThresholdYield(Record):
    """What a threshold finds in a source."""

    threshold: float
    documents: int
    tokens: int
    held_out: ClassifierMeasures
    share: Measured
    """Estimated share of positive documents in this source."""
    precision: Measured
    """Expected in this source: at that share, not at that of the examples."""


class YieldRecord(Record):
    """How many packed documents and tokens of a source score at least each threshold."""

    FILE = "yield.json"

    classifier: str
    source: str
    thresholds: tuple[float, ...]
    documents: tuple[int, ...]
    tokens: tuple[int, ...]
    """Tokenizer tokens, separators and BOS, as packed for the study's first model."""
    at_half: ThresholdYield
    used: tuple[ThresholdYield, ...]
    """At the thresholds of derived sources."""


class ShownScore(Record):
    """A document near a threshold, to be looked at."""

    identity: str
    id: str
    probability: float
    side: Literal["above", "below"]
    text: str
    """The beginning of the text."""


class SelectionRecord(Record):
    """Which documents of its parent a derived source took."""

    FILE = "selection.json"

    source: str
    parent: str
    rule: str
    documents: int
    tokens: int
    parent_documents: int
    parent_tokens: int
    shown: tuple[ShownScore, ...] = ()
    """Seeded samples from both sides of the threshold, of a source chosen by `where`."""


class Shared(Record):
    """The documents that two arms can both draw."""

    arm: str
    other: str
    documents: int
    tokens: int


class ArmsRecord(Record):
    """What each arm can draw, and what it shares with the other arms: distinct documents of all its mixtures' sources."""

    FILE = "arms.json"

    model: str
    documents: dict[str, int]
    tokens: dict[str, int]
    shared: tuple[Shared, ...]
    """Every ordered pair of arms."""


class DomainFindings(Record):
    """What a study's filters found: classifiers, what thresholds yield, what derived sources took, what arms share."""

    classifiers: tuple[ClassifierRecord, ...] = ()
    yields: tuple[YieldRecord, ...] = ()
    selections: tuple[SelectionRecord, ...] = ()
    """Of the first model's shards."""
    arms: ArmsRecord | None = None
