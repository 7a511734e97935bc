"""Records of scoring and comparison: measures, intervals, scores, paired differences, points of a curve, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cpt_ray.records.base import FileEntry, Record, SourceRole
from cpt_ray.records.exams import Half
from cpt_ray.records.fits import Answers

Measure = Literal[
    "bits_per_byte",
    "accuracy_points",
    "accuracy_norm_points",
    "order_accuracy_points",
    "order_changes_points",
    "letter_nats",
    "margin_nats",
]


@dataclass(frozen=True, slots=True)
class MeasureFacts:
    """What a measure is.

    Attributes:
        words: Its name in tables.
        unit: Unit of a difference.
        decimals: Decimals in tables.
        lower_is_better: Whether a negative difference is better.
    """

    words: str
    unit: str
    decimals: int
    lower_is_better: bool = False


MEASURES: dict[Measure, MeasureFacts] = {
    "bits_per_byte": MeasureFacts("bits per byte", "bits/byte", 3, lower_is_better=True),
    "accuracy_points": MeasureFacts("accuracy", "points", 1),
    "accuracy_norm_points": MeasureFacts("accuracy, length-normalized", "points", 1),
    "order_accuracy_points": MeasureFacts("accuracy, all orders", "points", 1),
    "order_changes_points": MeasureFacts("changes with the order", "points", 1, lower_is_better=True),
    # A mean of logarithms: its difference is the logarithm of the ratio of two perplexities.
    "letter_nats": MeasureFacts("log perplexity of the letter", "nats", 3, lower_is_better=True),
    "margin_nats": MeasureFacts("margin", "nats", 3),
}
"""By name, as in `Delta.measure`."""


class Interval(Record):
    """An interval of the level `confidence`; `kind` says over what it was taken."""

    low: float
    high: float
    confidence: float
    kind: str


class HeldOutScore(Record):
    """Scores of one model on one held-out set; per-document sums are in `documents_path`."""

    source: str
    role: SourceRole
    part: str
    documents: int
    cut_documents: int = 0
    """How many go on after `evaluate.document_tokens`: of these, only the beginning is scored."""
    scored_tokens: int
    scored_bytes: int
    nats: float
    bits_per_byte: float
    bits_per_byte_interval: Interval | None
    """None for too few documents, or if they are all equal."""
    perplexity: float
    perplexity_interval: Interval | None
    documents_path: str
    """JSON lines {identity, id, nats, tokens, bytes, cut}, relative to the evaluation's artifact folder."""


class ExamHalf(Record):
    """The score of one half of an exam, for a selection by it; the budget that a study selects is selected on text."""

    half: Half
    items: int
    accuracy: float | None
    """None where the half is empty, as in a tiny exam."""
    letter_perplexity: float | None
    margin: float | None


class ExamScore(Record):
    """Scores of one model on one exam or lm-eval task; per-item results are in `items_path`."""

    task: str
    label: str
    style: Literal["cloze", "letter"] | None = None
    """Form of the prompt; None for a task of lm-eval."""
    metric: str = "acc"
    """What `accuracy` is the mean of, in the words of lm-eval: `acc`, or for a task without it `exact_match` or `f1`."""
    version: str = ""
    """lm-eval's version of the task; of a group, that of its first task."""
    items: int
    groups: int = 0
    """Groups that items belong to: the units of the intervals, where there are any."""
    few_shot: int | None = 0
    """Examples before each question; None for a task of lm-eval whose own number is used."""
    cut_items: int = 0
    """Items whose prompt was longer than `evaluate.exam_context`, and lost its beginning."""
    accuracy: float
    accuracy_stderr: float
    """Over independent items."""
    accuracy_interval: Interval | None = None
    accuracy_norm: float | None
    """With the log-probability per character of the choice."""
    accuracy_norm_stderr: float | None
    accuracy_norm_interval: Interval | None = None
    letter_perplexity: float | None = None
    """Letter form: exp of the mean of -log p of the correct letter, over the whole vocabulary."""
    letter_perplexity_interval: Interval | None = None
    margin: float | None = None
    """Mean of log p of the correct choice minus that of the best other one, in nats."""
    margin_interval: Interval | None = None
    order_accuracy: float | None = None
    """Mean accuracy over all orders of the choices that were scored."""
    order_changes: float | None = None
    """Share of items whose chosen answer is not the same in all these orders."""
    halves: tuple[ExamHalf, ...] = ()
    suite: Literal["domain", "general"] | None = None
    """What the task measures, where the study says so."""
    chance: float
    items_path: str


class ScoredTask(Record):
    """What of an exam or a task of lm-eval is not in the lines of its items."""

    task: str
    items_path: str
    """JSON lines, relative to the folder of the scores."""
    style: Literal["cloze", "letter"] | None = None
    metric: str = "acc"
    version: str = ""
    few_shot: int | None
    cut_items: int = 0
    chance: float


class KnownPart(Record):
    """A held-out set, an exam or an entry of `evaluate.harness_tasks` that a model was scored on, in a folder named `key`."""

    FILE = "known.json"

    key: str
    """Of what the lines depend on: the content of the export, of the items, versions and settings."""
    depends_on: dict[str, object]
    """The same in plain values, for whoever wonders why something was scored again."""
    tasks: tuple[ScoredTask, ...] = ()
    """Of an exam or entry: what it consists of; empty for a held-out set."""
    files: tuple[FileEntry, ...]


class FailedScore(Record):
    """An exam or task that could not be scored, while the rest of the model was."""

    run: str
    task: str
    reason: str
    """In one line."""
    fix: str


class EvalRecord(Record):
    """All scores of one run's export."""

    FILE = "evaluation.json"

    run: str
    model: str
    arm: str | None
    seed: int | None
    budget_tokens: int | None
    tokens_seen: int
    held_out: tuple[HeldOutScore, ...]
    exams: tuple[ExamScore, ...]
    failed: tuple[FailedScore, ...] = ()
    """Exams and tasks without a score; the command that scores tries them again."""
    task_pid: int
    wall_s: float
    """Of scoring what was not known."""


class Delta(Record):
    """A paired difference, subject minus reference, of one measure on one set.

    `difference` is in the unit of the measure (`MEASURES`). `better` is the only judgment: None is "not measurable", or "not
    settled" where the interval excludes 0 by itself but the adjusted p-value of all sets together is above the level.
    """

    measure: Measure
    set_name: str
    role: Literal["domain", "general", "probe", "exam"]
    subject: str
    reference: str
    suite: Literal["domain", "general"] | None = None
    """What an exam measures, where the study says so."""
    subject_value: float
    reference_value: float
    difference: float
    interval: Interval | None
    missing: str = ""
    """Why there is no interval."""
    p_value: float
    """Smallest level at which the interval excludes 0; of right and wrong answers of one seed, that of McNemar's exact test."""
    adjusted_p_value: float
    """The same for all sets of this measure on which the two are compared together (Holm 1979)."""
    smallest_effect: float | None
    """The difference that this design would have found four times out of five, at the level at which it was judged."""
    relative_percent: float | None
    """Of the reference; of a log perplexity, of the perplexity; none of a margin, which may be 0 or below."""
    items: int
    seeds: int = 1
    better: bool | None

    @property
    def unsettled(self) -> bool:
        """Whether it would be measurable alone, and is not among all sets that are compared together."""
        return self.better is None and self.interval is not None and not self.interval.low <= 0 <= self.interval.high

    @property
    def unjudged(self) -> bool:
        """Whether there is a difference, and no interval to judge it by: then it is no finding that nothing changed."""
        return self.interval is None and self.difference != 0

    @property
    def loss_rank(self) -> tuple[bool, float]:
        """Sort key of differences in bits per byte, worst last: a measured loss ranks above a larger one that may be chance."""
        return self.better is False, self.difference


class Point(Record):
    """One point of a token-scaling curve."""

    run: str
    model: str
    arm: str | None
    seed: int | None
    tokens_seen: int
    set_name: str
    role: SourceRole
    bits_per_byte: float
    interval: Interval | None
    annealed: bool
    merged: bool = False
    """Whether the model was made without training: such a point is on no curve."""


class Selected(Record):
    """The budget that the validation half of the held-out domain text selects, and what it has on the test half."""

    model: str
    arm: str
    budget_tokens: int
    candidates: tuple[int, ...]
    """The budgets that it was selected from."""
    sets: tuple[str, ...]
    """The held-out sets, each with the same weight."""
    validation_bits_per_byte: float
    test_bits_per_byte: float


class Conclusion(Record):
    """What the tokens of a model's domain arm bought, what they cost, whether to train on: in words, of its largest budget."""

    model: str
    arm: str
    headline: str
    """In at most 25 words."""
    verdict: str
    """With all figures, in one sentence."""


class Comparison(Record):
    """What the study found: the deltas, the curves, its conclusions in words, and their caveats."""

    FILE = "comparison.json"

    points: tuple[Point, ...]
    deltas: tuple[Delta, ...]
    conclusions: tuple[Conclusion, ...] = ()
    """One for each model and domain arm; none where only bases were scored."""
    notes: tuple[str, ...]
    """Caveats that go with the verdict, one sentence each."""
    tokens_seen: int
    tokens_paid: int
    selected: tuple[Selected, ...] = ()
    """One for each model and domain arm with several budgets, where all of them were scored on the validation half."""
    failed: tuple[FailedScore, ...] = ()
    """Exams and tasks that could not be scored, by run."""
    answers: Answers = Answers()
    """What the curves say of budgets, sizes and mixes that were not run."""

    @property
    def headline(self) -> str:
        """All conclusions in brief."""
        return " ".join(one.headline for one in self.conclusions) or "Only base models were scored."

    @property
    def verdict(self) -> str:
        """All conclusions in full."""
        nothing = "Only base models were scored, so there is nothing to compare yet."
        return " ".join(one.verdict for one in self.conclusions) or nothing
