"""What a training worker is told: light enough for the driver, which imports neither torch's nor DeepSpeed's engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpt_ray.records import Record, RunSpec

POINTS = "trajectory"
"""Folder of a run's trajectory points: one folder per mark, with a record and an export of its own."""
RUN_FILE = "run.json"
"""A run's record, written last: a run that has it is finished."""


def point_folder(run_folder: str | Path, mark: int) -> Path:
    """Where a run keeps what it exported at a trajectory mark."""
    return Path(run_folder) / POINTS / str(mark)


class TrainTask(Record):
    """Everything a worker needs; paths are absolute and seen by every node."""

    spec: RunSpec
    config: dict[str, Any]
    model_folder: str
    shards_folder: str
    held_out_folder: str | None = None
    """Where the held-out sets lie that training may watch; None for none."""
    data_fingerprint: str
    deepspeed_path: str
    run_folder: str
    parent_folder: str | None
    fingerprint: str
    """Of everything that decides this run's result."""
    parent_fingerprint: str | None
    lease_path: str
    lease_attempt: int
    threads: int | None
    """Torch threads of a CPU worker; None leaves torch's own choice."""

    @property
    def stop_file(self) -> Path:
        """Written by the driver that asks its workers to save and stop; another driver's is another file."""
        return Path(self.lease_path).with_name(f"stop-{self.lease_attempt}")

    @property
    def finished(self) -> bool:
        """Whether an earlier start has finished this run."""
        return (Path(self.run_folder) / RUN_FILE).exists()
