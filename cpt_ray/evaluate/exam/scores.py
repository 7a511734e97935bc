"""From the results on single items to the score of an exam, with intervals. The same for the study's exams and lm-eval's tasks.

Items that have a group (a subject, a year, questions on one text) are not independent: where there are groups, they are the
units of the intervals. Means are over items either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError, DataError
from cpt_ray.evaluate import intervals
from cpt_ray.evaluate.per_item import ScoredItem, format_scores, sum_by_group
from cpt_ray.records import ExamHalf, ExamScore, Half, Interval, ScoredTask


def write_lines(task: str, lines: Sequence[ScoredItem], folder: Path) -> str:
    """Save the results on items to `exams/TASK.jsonl` in `folder`; return that path.

    Raises:
        DataError: If there is none, or a score is not finite.
    """
    if not lines:
        raise DataError(f"exam {task} has no items", fix="check the task's data: it has nothing to score")
    for line in lines:
        if not all(map(math.isfinite, line.log_p)):
            raise DataError(
                f"exam {task}: item {line.id!r} scored {list(line.log_p)} nats",
                fix="the weights contain NaN or infinity: check the run's loss, or score with evaluate.precision=fp32",
            )
    path = f"exams/{task}.jsonl"
    write_atomic(folder / path, format_scores(lines))
    return path


def require_free(names: Collection[str], taken: Collection[str], entry: str) -> None:
    """Refuse a second score of the same name.

    Args:
        names: Of the tasks of an exam or entry.
        taken: Of those before.
        entry: The exam or entry.

    Raises:
        ConfigError: If one is taken.
    """
    for name in names:
        if name in taken:
            raise ConfigError(
                f"evaluate.harness_tasks: {name} is in {entry} and in another entry or exam",
                fix="name the group or the task, not both; give an exam a name that no task has",
            )


def exam_score(
    scored: ScoredTask,
    lines: Sequence[ScoredItem],
    compare: CompareConfig,
    *,
    label: str,
    suite: Literal["domain", "general"] | None = None,
) -> ExamScore:
    """Summarize the items of an exam or task.

    Args:
        scored: What it is.
        lines: Results of its items, at least one.
        compare: Level, subsets and seed of the intervals.
        label: Its name in tables.
        suite: What it measures.
    """
    measures, style = _Measures(scored.task, lines, compare), scored.style
    accuracy, norm = measures.mean([line.accuracy for line in lines], "accuracy"), measures.of("accuracy_norm")
    letter = measures.of("letter_nats") if style == "letter" else None
    margin, order = measures.of("margin"), measures.of("order_accuracy")
    changes = measures.of("order_changes")
    return ExamScore(
        task=scored.task,
        label=label,
        style=style,
        metric=scored.metric,
        version=scored.version,
        few_shot=scored.few_shot,
        cut_items=scored.cut_items,
        suite=suite,
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
        chance=scored.chance,
        items_path=scored.items_path,
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
        return self.mean(values, measure) if values and len(values) == len(found) else None

    def mean(self, values: Sequence[float], measure: str) -> _Mean:
        """The mean of a value of every item."""
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
