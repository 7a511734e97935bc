"""The one door for curves: points of a run by name, tokens seen and value, and what a place that draws them has to offer.

In: steps and watched metrics. Out: points, the same for every place; `event_files` and `wandb_runs` are places. MLflow, which
also holds parameters, models and reports, has `store`. Guarantee: pure, and the same records give the same points.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from cpt_ray.edges.tracking.metrics import Watched
from cpt_ray.records import StepMetrics

STEP_VALUES = ("loss", "learning_rate", "gradient_norm", "tokens_per_s", "mfu")
"""What is drawn of a step."""


class CurvePoint(NamedTuple):
    """A point of a curve."""

    key: str
    """`train/loss`: what comes before the first slash groups curves."""
    tokens: int
    """The x axis."""
    value: float
    time_s: float
    """When it was measured, in Unix seconds; of a resumed run as if it had never stopped."""


class CurvePlace(Protocol):
    """Somewhere curves are drawn."""

    takes_back: bool
    """Whether points may be withdrawn: then steps are written at once, else when a checkpoint covers them."""

    def write(self, run: str, key: str, points: Sequence[CurvePoint]) -> None:
        """Write what is missing of a run's points.

        Args:
            run: Its name.
            key: Its identity: another one under the same name is another run.
            points: All of them, each curve in order.
        """

    def close(self, *, failed: bool) -> None:
        """Say that nothing more comes from this command."""


def run_points(steps: Sequence[StepMetrics], watched: Sequence[Watched], started_s: float) -> list[CurvePoint]:
    """The curves of a run; a skipped step leaves no point.

    Args:
        steps: Those that led to its weights, in order.
        watched: Held-out losses, memory and events.
        started_s: When it began, in Unix seconds.
    """
    ends = [started_s, *(started_s + seconds for seconds in itertools.accumulate(step.step_s for step in steps))]
    found = [
        CurvePoint(f"train/{name}", step.tokens_seen, value, end)
        for step, end in zip(steps, ends[1:], strict=True)
        if not step.skipped
        for name in STEP_VALUES
        if (value := getattr(step, name)) is not None and math.isfinite(value)
    ]
    seen = [step.tokens_seen for step in steps]
    return found + [
        CurvePoint(key.replace(".", "/"), tokens, value, ends[bisect.bisect_right(seen, tokens)])
        for key, tokens, value in watched
        if math.isfinite(value)
    ]


def score_points(scores: Mapping[tuple[str, int], float], time_s: float) -> list[CurvePoint]:
    """Token-scaling curves, of `curve_metrics`, as points."""
    rows = sorted(scores.items(), key=lambda item: item[0][1])
    return [CurvePoint(key.replace(".", "/"), tokens, value, time_s) for (key, tokens), value in rows if math.isfinite(value)]


def by_tokens(points: Sequence[CurvePoint]) -> Iterator[tuple[int, dict[str, float]]]:
    """Points as rows, in the order of tokens."""
    rows: dict[int, dict[str, float]] = {}
    for point in points:
        rows.setdefault(point.tokens, {})[point.key] = point.value
    yield from sorted(rows.items())
