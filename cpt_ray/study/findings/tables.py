"""Scores and losses of a study as Arrow tables, for pandas, Polars and plots.

In: records. Out: a row per model, set and metric, or per step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from cpt_ray.records import EvalRecord, Interval
from cpt_ray.train.monitor.metrics import bring_run, walk_steps

RESULTS = pa.schema(
    [
        ("run", pa.string()),
        ("model", pa.string()),
        ("arm", pa.string()),
        ("seed", pa.int64()),
        ("budget_tokens", pa.int64()),
        ("tokens", pa.int64()),
        ("set", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
"""Columns of `result_table`."""
_STEP = ("step", "tokens_seen", "loss", "learning_rate", "gradient_norm", "tokens_per_s", "skipped")
_STEP_TYPES = (pa.int64(), pa.int64(), *[pa.float64()] * 4, pa.bool_())
LOSSES = pa.schema(list(zip(_STEP, _STEP_TYPES, strict=True)))
"""Columns of `loss_table`."""
_HELD_OUT = ("bits_per_byte", "perplexity")
_EXAM = ("accuracy", "accuracy_norm", "letter_perplexity", "margin", "order_accuracy")


def result_table(evaluations: Iterable[EvalRecord]) -> pa.Table:
    """All scores.

    Args:
        evaluations: Bases, budgets, trajectory points and merges.

    Returns:
        Columns as in `RESULTS`; `low` and `high` are null where there is no interval.
    """
    return pa.Table.from_pylist([row for record in evaluations for row in score_rows(record)], schema=RESULTS)


def score_rows(record: EvalRecord) -> Iterator[dict[str, Any]]:
    """The scores of one model, as rows of `RESULTS`; a metric that a set does not have is left out."""
    about = {
        "run": record.run,
        "model": record.model,
        "arm": record.arm,
        "seed": record.seed,
        "budget_tokens": record.budget_tokens,
        "tokens": record.tokens_seen,
    }
    for held_out in record.held_out:
        for metric in _HELD_OUT:
            interval = getattr(held_out, f"{metric}_interval")
            name = held_out.source if held_out.part == "test" else f"{held_out.source} ({held_out.part})"
            yield {**about, "set": name, "metric": metric, "value": getattr(held_out, metric), **_ends(interval)}
    for exam in record.exams:
        for metric in _EXAM:
            if (value := getattr(exam, metric)) is not None:
                interval = getattr(exam, f"{metric}_interval", None)
                yield {**about, "set": exam.task, "metric": metric, "value": value, **_ends(interval)}


def loss_table(run_folder: Path) -> pa.Table:
    """The steps of a run so far, each from the newest attempt that reached it; columns as in `LOSSES`."""
    bring_run(run_folder)
    return pa.Table.from_pylist([{name: getattr(one, name) for name in _STEP} for one in walk_steps(run_folder)], schema=LOSSES)


def _ends(interval: Interval | None) -> dict[str, float | None]:
    return {"low": None, "high": None} if interval is None else {"low": interval.low, "high": interval.high}
