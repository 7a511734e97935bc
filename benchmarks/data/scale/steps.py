"""What following a run costs its driver: memory, and the time of one look, at two numbers of steps."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from pathlib import Path

from benchmarks.measure.claims import POSITIVE, Claim
from cpt_ray.records import StepMetrics
from cpt_ray.train.monitor.metrics import METRICS, LineWriter, StepReader

_ROWS = 32
_LOOKS = 20


def made_up(step: int) -> StepMetrics:
    """A step of a run."""
    # Of a source of 1,000 rows: pydantic keeps the last 16,384 strings that it read, however many there were.
    rows = tuple(f"law:{(_ROWS * step + row) % 1000}" for row in range(_ROWS))
    return StepMetrics(
        attempt=1, step=step, tokens_seen=65_536 * step, loss=2.5, learning_rate=2e-4, gradient_norm=1.0, tokens_per_s=1e4,
        step_s=6.5, data_wait_s=0.01, mfu=0.4, flops=1e15, sample_ids=rows,
    )  # fmt: skip


def follow(folder: Path, steps: int) -> dict[str, float]:
    """Read a run of so many steps as its driver does, then look again after each further step."""
    path = folder / METRICS / "attempt-0001.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{made_up(step).model_dump_json()}\n" for step in range(1, steps + 1))
    tracemalloc.start()
    reader = StepReader(folder)
    first = reader.read().steps
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    writer, looks = LineWriter(folder, METRICS, 1), []
    for step in range(steps + 1, steps + _LOOKS + 1):
        writer.write(made_up(step))
        began = time.perf_counter()
        found = reader.read().steps
        looks.append(1000 * (time.perf_counter() - began))
        if found != step:
            raise RuntimeError(f"step {step} was written, and {found} are seen")
    writer.close()
    return {"steps": first, "kept_bytes": kept, "peak_bytes": peak, "look_ms": statistics.median(looks)}


def measure(folder: Path, steps: int) -> list[Claim]:
    """A tenth of the steps, and all."""
    few, many = (follow(folder / str(number), number) for number in (steps // 10, steps))
    return [
        Claim(
            id="scale.watch_memory_growth",
            possible=POSITIVE,
            claim=f"memory of a driver that follows a run of {steps:,} steps, {_ROWS} rows each, over that at a tenth of them",
            value=many["peak_bytes"] / few["peak_bytes"],
            unit="times",
            target="<= 1.1",
            raw={"few": few, "many": many},
        ),
        Claim(
            id="scale.watch_look_ms",
            possible=POSITIVE,
            claim=f"one look of the driver at a run of {steps:,} steps that has done another",
            value=many["look_ms"],
            unit="ms",
            target="<= 5",
        ),
    ]
