"""What a worker tells the world while it trains: steps, events, its sign of life, memory.

Place in the flow: beside the loop. Out: JSON lines under the run's folder, a file per attempt, written by rank 0. Guarantee:
nothing here changes what is computed.
"""

from __future__ import annotations

from pathlib import Path

from cpt_ray.records import RunEvent, StepMetrics
from cpt_ray.train.loop import Progress
from cpt_ray.train.metrics import EVENTS, FOLDER, LineWriter


class Watch:
    """What is measured and told in one start of a run.

    Args:
        run_folder: The run's folder.
        attempt: Number of this start.
        rank: This worker; rank 0 writes.
    """

    def __init__(self, run_folder: Path, attempt: int, *, rank: int) -> None:
        self._metrics = LineWriter(run_folder, FOLDER, attempt) if rank == 0 else None
        self._events = LineWriter(run_folder, EVENTS, attempt) if rank == 0 else None

    def enter(self, phase: str, step: int) -> None:
        """This worker begins a phase of a step."""

    def log(self, metrics: StepMetrics) -> None:
        """Write a step's metrics."""
        if self._metrics:
            self._metrics.write(metrics)

    def report(self, event: RunEvent) -> None:
        """Write an event."""
        if self._events:
            self._events.write(event)

    def observe(self, before: Progress, after: Progress) -> None:
        """Measure what is due after a step; collective."""

    def close(self) -> None:
        """Close the files."""
        for writer in filter(None, (self._metrics, self._events)):
            writer.close()
