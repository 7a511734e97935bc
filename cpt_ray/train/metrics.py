"""What is measured while a run trains: one JSON line per step, and the speed it came from.

Workers write lines to run storage; only the driver talks to MLflow. A restarted run writes a file of its own, and a reader
takes each step from the newest attempt that reached it.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from cpt_ray.records import StepMetrics

FOLDER = "metrics"


class MetricsWriter:
    """Appends the steps of one attempt; each line is flushed, so a killed worker loses at most the line in hand."""

    def __init__(self, run_folder: Path, attempt: int) -> None:
        folder = run_folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._stream = (folder / f"attempt-{attempt:04d}.jsonl").open("a", encoding="utf-8")

    def write(self, metrics: StepMetrics) -> None:
        """Append one step."""
        self._stream.write(metrics.model_dump_json() + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(run_folder: Path) -> tuple[StepMetrics, ...]:
    """All steps of a run in order, each from the newest attempt that reached it; a cut last line is skipped."""
    steps: dict[int, StepMetrics] = {}
    for path in sorted((run_folder / FOLDER).glob("attempt-*.jsonl")):
        lines = path.read_text(encoding="utf-8").split("\n")
        read = [StepMetrics.from_json(line) for line in lines[:-1] if line]
        if read:
            # A resumed attempt replaces what an earlier one did beyond the checkpoint that it resumed from.
            steps = {step: metrics for step, metrics in steps.items() if step < read[0].step}
            steps.update({metrics.step: metrics for metrics in read})
    return tuple(steps[step] for step in sorted(steps))


def measure_peak_flops(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.3) -> float:
    """The FLOP/s of a large square matrix product on this worker: the peak that MFU is measured against."""
    size = 8192 if device.type == "cuda" else 1536
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    left @ right
    best, spent = 0.0, 0.0
    while spent < seconds:
        _synchronise(device)
        start = time.perf_counter()
        left @ right
        _synchronise(device)
        elapsed = time.perf_counter() - start
        best, spent = max(best, 2 * size**3 / elapsed), spent + elapsed
    return best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
