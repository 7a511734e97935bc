"""Records as MLflow metrics: names, x axis in tokens seen, and values.

Before `store`, which writes them. In: points, held-out losses, memory and events of a study. Out:
keys with tokens seen and values. Guarantee: pure; the same records give the same metrics, and MLflow is not imported.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

from cpt_ray.records import EvalRecord, Fit, HeldOutPoint, MemoryPoint, Point, RunEvent, RunRecord

Watched = tuple[str, int, float]
"""A metric other than a step's: key, tokens seen, value."""

_ALLOWED = str.maketrans({"@": ":", "+": ":"})
"""MLflow refuses metrics named like an arm of a grid, `legal@mix-half+factor-0.5`."""
_OF_EXAMS = ("accuracy", "accuracy_norm", "letter_perplexity", "margin")


def curve_metrics(points: Sequence[Point], control_arms: frozenset[str]) -> dict[tuple[str, int], float]:
    """Token-scaling curves as MLflow metrics: (key, tokens seen) to bits per byte, mean over seeds.

    A key is `domain.<set>.bits_per_byte`, with a prefix for control arms, for points that are not annealed, and for the arm or
    the model if there are several. Every series starts with its base at step 0. Merges are on no curve.
    """
    points = [point for point in points if not point.merged]
    models = dict.fromkeys(point.model for point in points)
    arms = dict.fromkeys(point.arm for point in points if point.arm is not None and point.arm not in control_arms)
    controls = dict.fromkeys(point.arm for point in points if point.arm in control_arms)
    groups: dict[tuple[str, int], list[float]] = {}
    for point in points:
        owners: list[str | None]
        if point.arm is None:
            owners = list(dict.fromkeys(p.arm for p in points if p.model == point.model and p.arm is not None and p.annealed))
        else:
            owners = [point.arm]
        for arm in owners or [None]:
            control = arm in control_arms
            several = arm is not None and len(controls if control else arms) > 1
            prefix = [point.model] if len(models) > 1 else []
            prefix += ["control"] if control else []
            prefix += [str(arm)] if several else []
            prefix += [] if point.annealed or point.arm is None else ["not_annealed"]
            key = ".".join([*prefix, point.role, point.set_name, "bits_per_byte"]).translate(_ALLOWED)
            groups.setdefault((key, point.tokens_seen), []).append(point.bits_per_byte)
    return {place: sum(values) / len(values) for place, values in groups.items()}


def fit_metrics(fits: Sequence[Fit]) -> dict[tuple[str, int], float]:
    """Parameters of fitted curves and the ends of their intervals, at step 0: (`fit.<of>.<name>`, `.low`, `.high`) to value.

    An end that the scores do not bound is not there; nor is a parameter that they bound on neither side.
    """
    found: dict[tuple[str, int], float] = {}
    for fit in fits:
        for one in fit.parameters:
            ends = {"low": one.low, "high": one.high}
            known = {f".{name}": value for name, value in ends.items() if value is not None}
            for end, value in ({"": one.value} | known).items() if known else ():
                found[f"{_key_of(fit)}.{one.name}{end}", 0] = value
    return found


def fit_tags(fits: Sequence[Fit]) -> dict[str, str]:
    """What each curve was fitted to and what to keep in mind, or why none was fitted, by `cpt_ray.fit.<of>`."""
    return {
        f"cpt_ray.{_key_of(fit)}": f"not fitted: {fit.refused}"
        if fit.refused
        else "; ".join([
            fit.formula,
            f"{fit.points} points, {fit.scores} scores, {fit.seeds} seeds, {fit.degrees_of_freedom} degrees of freedom",
            *fit.warnings,
        ])
        for fit in fits
    }  # fmt: skip


def _key_of(fit: Fit) -> str:
    return ".".join(["fit", fit.kind, fit.model or "all_models", fit.arm or "all_arms", fit.set_name]).translate(_ALLOWED)


def held_out_metrics(points: Sequence[HeldOutPoint]) -> list[Watched]:
    """Held-out losses during training: `during_training.<role>.<set>.bits_per_byte` and `.nats_per_token`, in order."""
    return [
        (f"during_training.{point.role}.{point.source}.{measure}", point.tokens_seen, getattr(point, measure))
        for point in points
        for measure in ("bits_per_byte", "nats_per_token")
    ]


def exam_metrics(record: EvalRecord) -> list[Watched]:
    """A model's exam scores, at the tokens that it saw: `exam.<task>.accuracy` and the other measures that the exam has."""
    return [
        (f"exam.{exam.task}.{measure}".translate(_ALLOWED), record.tokens_seen, float(value))
        for exam in record.exams
        for measure in _OF_EXAMS
        if (value := getattr(exam, measure)) is not None
    ]


def memory_metrics(points: Sequence[MemoryPoint]) -> list[Watched]:
    """Peak host and GPU memory since the previous point, over workers and phases: `memory.host_peak_bytes`, `.device_...`."""
    peaks: dict[tuple[str, int], int] = {}
    for point in points:
        host = point.host_bytes if point.host_peak_bytes_most is None else point.host_peak_bytes_most
        for key, value in (("memory.host_peak_bytes", host), ("memory.device_peak_bytes", point.device_peak_bytes_most)):
            if value is not None:
                peaks[key, point.tokens_seen] = max(value, peaks.get((key, point.tokens_seen), 0))
    return [(key, tokens, float(value)) for (key, tokens), value in peaks.items()]


def event_metrics(events: Sequence[RunEvent]) -> list[Watched]:
    """Running count of each kind of event, at every event: `events.spike`, `events.skipped_step` and so on."""
    counts: collections.Counter[str] = collections.Counter()
    rows: dict[tuple[str, int], int] = {}
    for event in sorted(events, key=lambda event: event.tokens_seen):
        counts[event.kind] += 1
        rows[f"events.{event.kind}", event.tokens_seen] = counts[event.kind]
    return [(key, tokens, float(count)) for (key, tokens), count in rows.items()]


def final_metrics(record: RunRecord, time_ms: int) -> list[tuple[str, float, int, int]]:
    """A finished run's totals, as `final.*`: key, value, time in ms, tokens seen."""
    training = record.training
    values: dict[str, float | None] = {"tokens_seen": record.tokens_seen}
    if training is not None:
        values |= {
            "steps": training.progress.step,
            "attempts": len(training.attempts),
            "spikes": training.spikes,
            "steps_skipped": training.progress.steps_skipped,
            "tokens_skipped": training.progress.tokens_skipped,
            **training.cost.model_dump(),
        }
    return [(f"final.{key}", float(v), time_ms, record.tokens_seen) for key, v in values.items() if v is not None]
