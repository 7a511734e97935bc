"""What a trial measured, kept for later plans: of a model's steps, and of the preparation of a sample of the text.

In: records below a study's root. Out: the trial that fits a plan best, and by how much it shifts the estimates. A trial counts
for the same model, device and precision; other settings are scaled from it (`plan/pace.py`), or shifted by what it measured
beyond its own estimate.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.plan.memory import Work, estimate_memory
from cpt_ray.plan.pace import Load, Tried
from cpt_ray.records import ModelShape, Record, Trial
from cpt_ray.train.order.batch_split import BatchSplit


class SavedTrial(Record):
    """A trial with the settings that it was made with."""

    model: str
    device: str
    """Name of the card, or `cpu`."""
    shape: ModelShape
    train: TrainConfig
    deepspeed: DeepSpeedConfig
    micro_batch: int
    workers: int
    row_tokens: int
    mean_keys: float
    trial: Trial
    created: str

    @property
    def subject(self) -> Load:
        """What was trained. The steps of a trial make few passes, which are timed one by one."""
        split = BatchSplit(self.train.global_batch_size, self.workers, self.micro_batch)
        return Load(self.shape, self.train, self.deepspeed, split, self.row_tokens, self.mean_keys)


class SavedRate(Record):
    """How fast a sample of the text was prepared by one process."""

    FILE = "prepare.json"

    sources: str
    """Fingerprint of the sources and settings that it is of."""
    sampled_bytes: int
    seconds: float
    created: str

    @property
    def bytes_per_s(self) -> float:
        """Of one process."""
        return self.sampled_bytes / self.seconds


def fitting_trial(trials: Sequence[SavedTrial], shape: ModelShape, train: TrainConfig, device: str) -> SavedTrial | None:
    """The newest trial of the same weights, device and precision; of these, one with the same settings before others."""
    same = [
        one
        for one in trials
        if (one.device, one.train.precision) == (device, train.precision)
        and (one.shape.parameters, one.shape.num_layers) == (shape.parameters, shape.num_layers)
    ]
    keys = ("micro_batch_size", "gradient_checkpointing", "lora", "freeze", "optimizer")
    return max(
        same,
        key=lambda one: (sum(getattr(one.train, key) == getattr(train, key) for key in keys), one.created),
        default=None,
    )


def beyond_estimate(saved: SavedTrial, work: Work) -> int | None:
    """Bytes that a trial's peak was above the estimate for its own settings, or below it; None if it has no peak.

    Args:
        saved: The trial.
        work: What a worker of the plan does; that of the trial differs in its rows, and its process has nothing else in it.
    """
    plan = estimate_memory(
        saved.model,
        shape=saved.shape,
        deepspeed=saved.deepspeed,
        train=saved.train.model_copy(update={"micro_batch_size": saved.micro_batch}),
        num_workers=saved.workers,
        work=work._replace(place=work.place._replace(process="bare"), row_tokens=saved.row_tokens, measured_bytes=None),
    )
    if work.place.on_gpu:
        peak, planned = saved.trial.device_peak_bytes, plan.allocated_bytes
    else:
        peak, planned = saved.trial.host_peak_bytes, plan.peak_bytes
    return None if peak is None else peak - planned


def tried(saved: SavedTrial | None) -> Tried | None:
    """The trial as the pace wants it."""
    return None if saved is None else Tried(saved.subject, saved.trial)
