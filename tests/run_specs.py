"""Run specs for tests that need one, however it was planned."""

from __future__ import annotations

from cpt_ray.records import RateSchedule, RunSpec


def make_schedule(stop: int | None = None, *, start: int | None = None, peak: float = 1.0, **changes: object) -> RateSchedule:
    """No warm-up, rate `peak`, and a 1-sqrt cooldown from `start` to zero at `stop`; without a start, no cooldown."""
    fields: dict[str, object] = {
        "warmup_start_tokens": 0,
        "warmup_tokens": 0,
        "start_rate": 0.0,
        "peak_rate": peak,
        "decay_start_tokens": start,
        "decay_end_tokens": None if start is None else stop,
        "decay_shape": "1-sqrt",
        "final_rate": peak if start is None else 0.0,
    }
    return RateSchedule.model_validate({**fields, **changes})


def make_spec(stop: int, *, cooldown: int | None = None, **changes: object) -> RunSpec:
    """A run of model m and arm a from the base to `stop` that cools down from `cooldown` onward."""
    fields: dict[str, object] = {
        "name": f"m-a-{stop}-seed0",
        "kind": "independent",
        "model": "m",
        "arm": "a",
        "seed": 0,
        "budget_tokens": stop,
        "parent": None,
        "start_tokens": 0,
        "stop_tokens": stop,
        "schedule": make_schedule(stop, start=cooldown),
    }
    return RunSpec.model_validate({**fields, **changes})
