"""Progress lines: what is done, how fast, and when it will be finished."""

from __future__ import annotations

import time

from cpt_ray.config.values import format_count
from cpt_ray.records import RunSpec, StepMetrics
from cpt_ray.study.study import Console


class StageProgress:
    """A callback for stages that work through units."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show `done` of `total` units of `stage`, with the rate and the time left."""
        now = time.monotonic()
        elapsed = now - self._started.setdefault(stage, now)
        rest = f", {done / elapsed:.1f} units/s, ETA {format_eta(elapsed / done * (total - done))}" if done and elapsed else ""
        self._console.progress(f"  {stage} {done}/{total} units{rest}")


def describe_steps(spec: RunSpec, steps: tuple[StepMetrics, ...]) -> str:
    """One line for a run in training."""
    last = steps[-1]
    recent = steps[-10:]
    seconds = sum(step.step_s for step in recent)
    rate = sum(step.tokens_per_s * step.step_s for step in recent) / seconds if seconds else 0.0
    left = max(0, spec.stop_tokens - last.tokens_seen)
    return (
        f"  {spec.name}  step {last.step}  {format_count(last.tokens_seen)}/{format_count(spec.stop_tokens)} tokens  "
        f"loss {last.loss:.3f}  lr {last.learning_rate:.2e}  {rate:.0f} tokens/s  ETA {format_eta(left / rate if rate else 0)}"
    )


def format_eta(seconds: float) -> str:
    """Seconds the way people read them: `42 s`, `7 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
