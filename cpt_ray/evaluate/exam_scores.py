"""From the results on single items to the score of an exam, with intervals. The same for the study's exams and lm-eval's tasks.

Items that have a group (a subject, a year, questions on one text) are not independent: where there are groups, they are the
units of the intervals. Means are over items either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import DataError
from cpt_ray.evaluate import intervals
from cpt_ray.evaluate.per_item import ScoredItem, format_scores, sum_by_group
from cpt_ray.records import ExamHalf, ExamScore, Half, Interval


def exam_score(
    task: str,
    label: str,
    lines: Sequence[ScoredItem],
    *,
    chance: float,
    compare: CompareConfig,
    folder: Path,
    style: Literal["cloze", "letter"] | None = None,
) -> ExamScore:
    """Summarize the items of a task, and save them to `exams/TASK.jsonl` in `folder`.

    Args:
        task: Name of the exam or task.
        label: Its name in tables.
        lines: Results of its items.
        chance: Accuracy of guessing.
        compare: Level, subsets and seed of the intervals.
        folder: Evaluation folder.
        style: Of the prompt; None for a task of lm-eval.

    Raises:
        DataError: If a score is not finite.
    """
    _require_finite(task, lines)
    path = f"exams/{task}.jsonl"
    write_atomic(folder / path, format_scores(lines))
    measures = _Measures(task, lines, compare)
    accuracy, norm = measures.of("accuracy"), measures.of("accuracy_norm")
    letter = measures.of("letter_nats") if style == "letter" else None
    margin, order = measures.of("margin"), measures.of("order_accuracy")
    changes = measures.of("order_changes")
    if accuracy is None:
        raise DataError(f"exam {task} has no items", fix="delete the evaluation's folder and run `cpt-ray evaluate` again")
    return ExamScore(
        task=task,
        label=label,
        style=style,
        items=len(lines),
        groups=len({line.group for line in lines if line.group}),
        accuracy=accuracy.value,
        accuracy_stderr=accuracy.stderr,
        accuracy_interval=accuracy.interval,
        accuracy_norm=norm and norm.value,
        accuracy_norm_stderr=norm and norm.stderr,
        accuracy_norm_interval=norm and norm.interval,
        letter_perplexity=letter and math.exp(letter.value),
        letter_perplexity_interval=letter and letter.exponential,
        margin=margin and margin.value,
        margin_interval=margin and margin.interval,
        order_accuracy=order and order.value,
        order_changes=changes and changes.value,
        halves=tuple(_half(half, [line for line in lines if line.half == half], style) for half in get_args(Half)),
        chance=chance,
        items_path=path,
    )


def _require_finite(task: str, lines: Sequence[ScoredItem]) -> None:
    for line in lines:
        if not all(map(math.isfinite, line.log_p)):
            raise DataError(
                f"exam {task}: item {line.id!r} scored {list(line.log_p)} nats",
                fix="the weights contain NaN or infinity: check the run's loss, or score with evaluate.precision=fp32",
            )


class _Mean(NamedTuple):
    value: float
    stderr: float
    interval: Interval | None

    @property
    def exponential(self) -> Interval | None:
        if self.interval is None:
            return None
        return self.interval.model_copy(update={"low": math.exp(self.interval.low), "high": math.exp(self.interval.high)})


VALUES: dict[str, Callable[[ScoredItem], float | None]] = {
    "accuracy": lambda line: line.accuracy,
    "accuracy_norm": lambda line: line.accuracy_norm,
    "letter_nats": lambda line: None if line.right is None else -line.log_p[line.right],
    "margin": lambda line: line.margin,
    "order_accuracy": lambda line: line.order_accuracy,
    "order_changes": lambda line: line.order_changes,
}
"""What each measure is of one item; None where the item does not have it."""


class _Measures:
    """Means over the items of one exam."""

    def __init__(self, task: str, lines: Sequence[ScoredItem], compare: CompareConfig) -> None:
        self._task, self._lines, self._compare = task, lines, compare

    def of(self, measure: str) -> _Mean | None:
        """The mean of a measure; None if not every item has it."""
        found = [VALUES[measure](line) for line in self._lines]
        values = [value for value in found if value is not None]
        if not values or len(values) < len(found):
            return None
        mean, stderr = mean_and_stderr(values)
        sums, counts, unit = sum_by_group(np.array(values, dtype=np.float64)[None], self._lines)
        random = intervals.generator(self._compare.seed, f"exam/{self._task}/{measure}")
        estimate = intervals.estimate(sums, counts, samples=self._compare.subsets, random=random)
        return _Mean(mean, stderr, estimate.interval(self._compare.confidence, f"over {unit}"))


def _half(half: Half, lines: Sequence[ScoredItem], style: Literal["cloze", "letter"] | None) -> ExamHalf:
    margins = [line.margin for line in lines if line.margin is not None]
    nats = [-line.log_p[line.right] for line in lines if line.right is not None] if style == "letter" else []
    return ExamHalf(
        half=half,
        items=len(lines),
        accuracy=sum(line.accuracy for line in lines) / len(lines) if lines else None,
        letter_perplexity=math.exp(sum(nats) / len(nats)) if nats else None,
        margin=sum(margins) / len(margins) if margins else None,
    )


def mean_and_stderr(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error over independent items."""
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return mean, math.sqrt(spread / len(values))
