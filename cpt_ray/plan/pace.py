"""How long a step takes, and what surrounds steps: from a trial on this hardware, else from a profile.

In: a model's shape, its settings, a `HardwareProfile`, and a `Trial` if there is one. Out: a `Pace`. A profile gives FLOP/s,
its peak times the share that training achieves, and an optimizer step bound by memory; a trial gives both as measured, and
other settings are scaled from it by their FLOPs, weights and bytes. Guarantee: pure arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.model.parameters import flops_per_token
from cpt_ray.plan.hardware import HardwareProfile
from cpt_ray.records import ModelShape, Trial
from cpt_ray.train.engine.state_bytes import checkpoint_bytes, is_offloaded
from cpt_ray.train.order.batch_split import BatchSplit

_BYTES_PER_STEP = 30
"""Of each weight that AdamW updates: gradient, master weight and two moments are read, all but the first written, and the
16-bit weight."""
_DISK = 5e8
"""Bytes per second to a local disk, where no trial says."""
_HOST_BANDWIDTH = 2e10
"""Of a worker's share of a host, on which DeepSpeed updates offloaded weights."""
_START_S = {"GPU": 60.0, "CPU": 15.0}
"""Of a group of workers, and of its compilation, where no trial says."""
_BUILD_S = 5.0
RAY_START_S = 12.0
"""Of Ray and of a group of its workers, measured on two cores."""


class Load(NamedTuple):
    """What is trained, as far as time depends on it."""

    shape: ModelShape
    train: TrainConfig
    deepspeed: DeepSpeedConfig
    split: BatchSplit
    row_tokens: int
    mean_keys: float

    @property
    def pass_flops(self) -> float:
        """Model FLOPs of a forward and backward pass on one worker."""
        return self.split.micro_batch * self.row_tokens * flops_per_token(self.shape, self.mean_keys)

    @property
    def shard(self) -> float:
        """Weights that a worker's optimizer updates."""
        return self.shape.trained_parameters / (self.split.workers if self.deepspeed.zero_stage else 1)

    @property
    def saved_bytes(self) -> float:
        """Bytes of a checkpoint that a worker writes."""
        return checkpoint_bytes(self.shape, self.deepspeed, self.train) / self.split.workers


@dataclass(frozen=True)
class Tried:
    """A trial and what it tried."""

    load: Load
    trial: Trial


@dataclass(frozen=True)
class Pace:
    """Seconds of the parts of a run."""

    pass_s: float
    step_s: float
    save_s: float
    export_s: float
    start_s: float
    """Of a group of workers."""
    build_s: float
    """Model and engine of each run."""
    score_tokens_per_s: float
    """Of one model on one worker's device."""

    def optimizer_step_s(self, split: BatchSplit) -> float:
        """A whole step: passes, then the update."""
        return split.accumulation_steps * self.pass_s + self.step_s


def planned_pace(load: Load, hardware: HardwareProfile, cores: float, tried: Tried | None) -> Pace:
    """The pace of a model on one kind of hardware.

    Args:
        load: What is trained.
        hardware: The profile.
        cores: Cores of a worker, for a profile of a core.
        tried: A trial of the same model there, or None.
    """
    return _from_profile(load, hardware, cores) if tried is None else _from_trial(load, hardware, tried)


def peak_flops(hardware: HardwareProfile, train: TrainConfig, cores: float) -> float:
    """Peak FLOP/s of a worker in the precision that it trains in."""
    devices = 1.0 if hardware.is_gpu else cores
    return hardware.peak_bf16_flops * devices * (hardware.fp32_share if train.precision == "fp32" else 1.0)


def _from_profile(load: Load, hardware: HardwareProfile, cores: float) -> Pace:
    achieved = peak_flops(hardware, load.train, cores) * hardware.achieved_share
    recompute = hardware.recompute_time if load.train.gradient_checkpointing else 1.0
    offloaded = is_offloaded(load.deepspeed.tree.get("zero_optimization", {}), "offload_optimizer")
    scored = flops_per_token(load.shape, load.mean_keys) / 3
    return Pace(
        pass_s=load.pass_flops * recompute / achieved,
        step_s=load.shard * _BYTES_PER_STEP / (_HOST_BANDWIDTH if offloaded else hardware.memory_bandwidth),
        save_s=load.saved_bytes / _DISK,
        export_s=load.shape.parameters * 2 / _DISK,
        start_s=_START_S["GPU" if hardware.is_gpu else "CPU"],
        build_s=_BUILD_S,
        score_tokens_per_s=achieved / scored,
    )


def _from_trial(load: Load, hardware: HardwareProfile, tried: Tried) -> Pace:
    trial, then = tried.trial, tried.load
    recompute = _recompute(load, hardware) / _recompute(then, hardware)
    written = load.saved_bytes / then.saved_bytes
    return Pace(
        pass_s=trial.pass_s * recompute * load.pass_flops / then.pass_flops,
        step_s=trial.step_s * load.shard / then.shard,
        save_s=trial.save_s * written,
        export_s=trial.export_s * load.shape.parameters / then.shape.parameters + load.shape.parameters * 2 / _DISK,
        start_s=trial.import_s + max(0.0, trial.first_step_s - trial.passes * trial.pass_s - trial.step_s),
        build_s=trial.build_s,
        score_tokens_per_s=trial.score_tokens_per_s,
    )


def _recompute(load: Load, hardware: HardwareProfile) -> float:
    return hardware.recompute_time if load.train.gradient_checkpointing else 1.0
