"""A training worker's input, resolved by the driver so that no worker rereads the study file."""

from __future__ import annotations

from pathlib import Path

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.config.sections.train import ModelConfig, TrainConfig
from cpt_ray.edges import store
from cpt_ray.edges.lease import require_lease
from cpt_ray.records import Record, RunRecord, RunSpec

EXPORT = "export"
"""Folder of the model that a run, a trajectory point or a merge produces."""
POINTS = "trajectory"
"""Folder of a run's trajectory points: one folder per mark, with a separate record and export."""


AVERAGED = "average"
"""Folder of the weights that a run keeps for an average: one folder per mark."""


def point_folder(run_folder: str | Path, mark: int) -> Path:
    """The folder for a run's record and export at a trajectory mark."""
    return Path(run_folder) / POINTS / str(mark)


def averaged_folder(run_folder: str | Path, mark: int) -> Path:
    """The folder for the weights that a run keeps at a mark of its cooldown."""
    return Path(run_folder) / AVERAGED / str(mark)


class RunSettings(Record):
    """The sections of the study file that determine one run, and what its model card quotes from the others."""

    study: str
    model: ModelConfig
    arm: ArmConfig
    train: TrainConfig
    deepspeed: DeepSpeedConfig
    licenses: dict[str, str | None]
    """License of each source's text."""


class TrainTask(Record):
    """Everything a worker needs; paths are absolute and visible to every node."""

    spec: RunSpec
    settings: RunSettings
    model_folder: str
    shards_folder: str
    derived_folders: tuple[str, ...]
    """Of the derived sources that the run draws."""
    held_out_folder: str | None = None
    """The held-out sets that training may watch; None for none."""
    data_fingerprint: str
    run_folder: str
    parent_folder: str | None
    fingerprint: str
    """Covers everything that determines this run's result."""
    parent_fingerprint: str | None
    lease_path: str
    lease_attempt: int
    scratch: str | None = None
    """Node-local folder for snapshots; None is the system's temporary folder."""
    runtime: RuntimeConfig = RuntimeConfig(kind="local")
    """Where it is trained."""
    threads: int | None
    """Torch threads of a CPU worker; None keeps torch's default."""

    def here(self) -> TrainTask:
        """The task with the paths of this node, after what workers read before they train was fetched.

        Raises:
            ArtifactError: If a store refuses it.
        """
        if not store.is_mirrored(Path(self.run_folder)):
            return self
        folders = ("model_folder", "shards_folder", "held_out_folder", "run_folder", "parent_folder", "lease_path")
        moved = {name: str(store.here(path)) for name in folders if (path := getattr(self, name)) is not None}
        derived = tuple(str(store.here(path)) for path in self.derived_folders)
        task = self.model_copy(update={**moved, "derived_folders": derived})
        store.fetched_folder(Path(task.model_folder))
        for folder in filter(None, (task.shards_folder, *derived, task.held_out_folder)):
            store.fetched_folder(Path(folder), "*")
        return task

    def require_lease(self) -> None:
        """Refuse to write on behalf of a driver that has been superseded.

        Raises:
            LeaseError: If another driver has taken over the study.
        """
        require_lease(Path(self.lease_path), self.lease_attempt)

    @property
    def finished(self) -> bool:
        """Whether an earlier start has finished this run."""
        return store.exists(Path(self.run_folder) / RunRecord.FILE)


class TrialTask(Record):
    """What a trial's worker is given."""

    model_folder: str
    trust_remote_code: bool
    train: TrainConfig
    deepspeed: DeepSpeedConfig
    runtime: RuntimeConfig
    micro_batch: int
    workers: int
    sequence_length: int
    segment_tokens: int
    """Length of the documents of a row."""
    vocabulary_size: int
    threads: int | None
    seconds: float
    """How long it trains after the first step."""
