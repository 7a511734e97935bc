"""Records of made-up runs."""

from __future__ import annotations

import functools
from typing import Any

from cpt_ray.records import RateSchedule, RunAttempt, RunProgress, SelfTest, StepMetrics, TrainingCost, TrainingRecord
from cpt_ray.train.monitor.metrics import RunSteps

SCHEDULE = RateSchedule(
    warmup_start_tokens=0, warmup_tokens=0, start_rate=0.0, peak_rate=2e-4, decay_start_tokens=None, decay_end_tokens=None,
    decay_shape="1-sqrt", final_rate=0.0,
)  # fmt: skip


def run_steps(*steps: StepMetrics) -> RunSteps:
    """What a reader of these steps returns."""
    return functools.reduce(RunSteps.with_step, steps, RunSteps())


def attempt(
    number: int = 1, *, first_step: int = 0, world_size: int = 1, self_test: SelfTest | None = None, **changes: Any
) -> RunAttempt:
    """An attempt of a run."""
    fields: dict[str, Any] = {
        "attempt": number, "first_step": first_step, "resumed": number > 1, "world_size": world_size, "worker_pids": (1,),
        "kernel": "sdpa", "peak_flops_per_s": 1e12, "self_test": self_test,
    }  # fmt: skip
    return RunAttempt(**{**fields, **changes})


def cost(**changes: Any) -> TrainingCost:
    """The cost of a made-up two-second run."""
    fields: dict[str, Any] = {
        "flops": 1e6, "mean_tokens_per_s": 50.0, "mfu": None, "wall_s": 2.0, "data_wait_s": 0.0, "checkpoint_s": 0.0,
        "held_out_s": 0.0, "host_peak_bytes": None, "device_peak_bytes": None,
    }  # fmt: skip
    return TrainingCost(**{**fields, **changes})


def training(tokens_seen: int, **changes: Any) -> TrainingRecord:
    """A run of one attempt that has seen `tokens_seen` tokens."""
    fields: dict[str, Any] = {
        "progress": RunProgress(step=10, tokens_seen=tokens_seen), "start_tokens": 0, "schedule": SCHEDULE,
        "optimizer": "fresh", "mixes": (), "spikes": 0, "attempts": (attempt(),), "cost": cost(),
    }  # fmt: skip
    return TrainingRecord(**{**fields, **changes})
