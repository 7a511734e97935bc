"""What a training worker is given: resolved by the driver, so that no worker reads the study file again."""

from __future__ import annotations

from pathlib import Path

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.config.sections.train import ModelConfig, TrainConfig
from cpt_ray.records import Record, RunRecord, RunSpec

POINTS = "trajectory"
"""Folder of a run's trajectory points: one folder per mark, with a separate record and export."""


def point_folder(run_folder: str | Path, mark: int) -> Path:
    """Where a run keeps what it exported at a trajectory mark."""
    return Path(run_folder) / POINTS / str(mark)


class RunSettings(Record):
    """The sections of the study file that decide one run, and what its model card quotes of the others."""

    study: str
    model: ModelConfig
    arm: ArmConfig
    train: TrainConfig
    deepspeed: DeepSpeedConfig
    licenses: dict[str, str | None]
    """Of each source's text."""


class TrainTask(Record):
    """Everything a worker needs; paths are absolute and seen by every node."""

    spec: RunSpec
    settings: RunSettings
    model_folder: str
    shards_folder: str
    held_out_folder: str | None = None
    """The held-out sets that training may watch; None for none."""
    data_fingerprint: str
    run_folder: str
    parent_folder: str | None
    fingerprint: str
    """Of everything that decides this run's result."""
    parent_fingerprint: str | None
    lease_path: str
    lease_attempt: int
    scratch: str | None = None
    """Node-local folder for snapshots; None is the system's temporary folder."""
    threads: int | None
    """Torch threads of a CPU worker; None leaves torch's own choice."""

    @property
    def stop_file(self) -> Path:
        """Written by the driver that asks its workers to save and stop; another driver's is another file."""
        return Path(self.lease_path).with_name(f"stop-{self.lease_attempt}")

    @property
    def finished(self) -> bool:
        """Whether an earlier start has finished this run."""
        return (Path(self.run_folder) / RunRecord.FILE).exists()
