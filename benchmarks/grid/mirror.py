"""What mirroring a study into MLflow takes: a real server over http with a sqlite backend, and runs of up to 20,000 steps.

Times are seconds on the clock: the driver waits for the server.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.tracking_server import serve
from cpt_ray.edges.tracking.store import Tracking
from cpt_ray.records import RunRecord, StepMetrics
from tests.run_records import training

VALUES = 5
"""Of each step: loss, learning rate, gradient norm, tokens per second, MFU."""
STEPS = (2_000, 6_000, 20_000)


def measure(steps: Sequence[int] = STEPS) -> list[Claim]:
    """Mirror runs of these lengths, each twice: the second time there is nothing to add."""
    raw = []
    with tempfile.TemporaryDirectory() as scratch, serve(Path(scratch) / "runs.db") as address:
        _mirror(address, "warm", 100)
        for count in steps:
            first, again = _mirror(address, f"run of {count}", count), _mirror(address, f"run of {count}", count)
            raw.append({"points": VALUES * count, "seconds": round(first, 2), "again": round(again, 2)})
    small, large = raw[0], raw[-1]
    points = large["points"]
    per_point = [one["seconds"] / one["points"] for one in (small, large)]
    return [
        Claim(
            id="mlflow.mirror_s", possible=POSITIVE, unit="s", target="<= 120", value=large["seconds"], raw=raw,
            claim=f"mirroring a run of {points:,.0f} metric points to an MLflow server over http, sqlite behind it",
        ),
        Claim(
            id="mlflow.mirror_growth", possible=POSITIVE, unit="times", target="<= 1.5", value=per_point[1] / per_point[0],
            claim=f"seconds per point at {points:,.0f} points over those at {small['points']:,.0f}",
        ),
        Claim(
            id="mlflow.mirror_again_s", possible=POSITIVE, unit="s", target="<= 5", value=large["again"],
            claim="mirroring the same run once more, which adds nothing",
        ),
    ]  # fmt: skip


def _mirror(address: str, name: str, count: int) -> float:
    steps = tuple(
        StepMetrics(
            attempt=1, step=n, tokens_seen=1000 * n, loss=2.0 + 1 / n, learning_rate=1e-4, gradient_norm=1.0, tokens_per_s=50.0,
            step_s=0.2, data_wait_s=0.0, mfu=0.4,
        )
        for n in range(1, count + 1)
    )  # fmt: skip
    run = RunRecord(
        run="m-legal-1000-seed0", kind="independent", model="m", arm="legal", seed=0, budget_tokens=1000, export_path=None,
        annealed=True, training=training(1000 * count),
    )  # fmt: skip
    started = time.perf_counter()
    tracking = Tracking(address, name)
    parent = tracking.mirror_study(name, name, config={}, points=(), control_arms=frozenset())
    tracking.mirror_run(parent, run, metrics=steps)
    tracking.finish_study(parent, texts={"results.csv": "subject,reference\n"})
    return time.perf_counter() - started
