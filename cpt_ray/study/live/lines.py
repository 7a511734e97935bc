"""Progress lines: how much is done, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from cpt_ray.config.values import format_count, format_eta
from cpt_ray.records import RunEvent, RunRecord, RunSpec, StepMetrics
from cpt_ray.study.stages.stage import Console
from cpt_ray.train.monitor.metrics import RunSteps


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


def describe_steps(spec: RunSpec, steps: RunSteps, which: str = "") -> str:
    """One line for a run in training; the time left comes early, because terminals cut the end."""
    last, (share, rate, eta) = steps.last[-1], _shown(spec, steps)
    parts = [
        f"{which} {spec.name}".strip(),
        f"{share} of {format_count(spec.stop_tokens)} tokens",
        f"ETA {eta}",
        f"step {last.step}",
        f"loss {last.loss:.3f}",
        f"{format_count(rate)} tokens/s",
        f"lr {last.learning_rate:.2e}",
        *_count(steps.skipped, "step skipped", "steps skipped"),
        *_count(steps.spikes, "loss spike", "loss spikes"),
    ]
    return "  " + "  ".join(parts)


def describe_running(runs: Sequence[tuple[RunSpec, RunSteps]], done: int, total: int) -> str:
    """One line for several runs in training: each with its share, the time left and its loss."""
    each = []
    for spec, steps in runs:
        share, _, eta = _shown(spec, steps)
        each.append(f"{spec.name} {share}, ETA {eta}, loss {steps.last[-1].loss:.3f}")
    return f"  {done}/{total} runs done, {len(runs)} in training: {'; '.join(each)}"


class Pace(NamedTuple):
    """How far a run is, and how fast."""

    share: float
    """Of its own tokens, from 0 to 1."""
    tokens_per_s: float
    """Over the last ten steps; 0 if they took no time."""
    left: int
    """Tokens."""

    @property
    def eta_s(self) -> float | None:
        """Seconds left; None if the rate is unknown."""
        return self.left / self.tokens_per_s if self.tokens_per_s else None


def pace(steps: Sequence[StepMetrics], start_tokens: int, stop_tokens: int) -> Pace:
    """How far a run is that goes from `start_tokens` to `stop_tokens`, by its steps so far."""
    last, recent = steps[-1], steps[-10:]
    seconds = sum(step.step_s for step in recent)
    rate = sum(step.tokens_per_s * step.step_s for step in recent) / seconds if seconds else 0.0
    spent = last.tokens_seen + last.tokens_skipped
    share = max(0, spent - start_tokens) / max(1, stop_tokens - start_tokens)
    return Pace(min(1.0, share), rate, max(0, stop_tokens - spent))


def _shown(spec: RunSpec, steps: RunSteps) -> tuple[str, float, str]:
    """The share that is done, tokens a second, and the time left."""
    now = pace(steps.last, spec.start_tokens, spec.stop_tokens)
    return f"{100 * now.share:.0f} %", now.tokens_per_s, "unknown" if now.eta_s is None else format_eta(now.eta_s)


def describe_event(spec: RunSpec, event: RunEvent) -> str:
    """A permanent line, for events that deserve attention."""
    return f"{spec.name}  {event_text(event)}"


def event_text(event: RunEvent) -> str:
    """An event and the rows that it names, without its run."""
    what = {"spike": "loss spike", "skipped_step": "skipped"}.get(event.kind, event.kind)
    rows = f"; rows {', '.join(event.sample_ids[:4])}{', ...' if len(event.sample_ids) > 4 else ''}" if event.sample_ids else ""
    who = f" of worker {event.rank}" if event.kind == "warning" else ""
    return f"step {event.step}  {what}{who}: {event.text}{rows}"


def _count(number: int, one: str, several: str) -> list[str]:
    return [f"{number} {one if number == 1 else several}"] if number else []


def describe_mixes(record: RunRecord) -> list[str]:
    """A line for each mixture of a finished run, with the weights that it realized."""
    return [
        f"          rows {mix.first_position} to {mix.first_position + mix.rows - 1}: "
        + ", ".join(f"{source} {100 * weight:.2f} %" for source, weight in mix.weights.items())
        for mix in (record.training.mixes if record.training else ())
    ]
