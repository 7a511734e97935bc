"""How many bytes a model's training states take on one worker, by ZeRO stage; `activation_bytes.py` has the rest.

The formula of the states is that of ZeRO (Rajbhandari et al. 2020, sections 3.1 and 5): with P parameters, mixed precision
keeps 2P bytes of weights, 4P of gradients (summed in fp32; 2P at stage 0 or where the JSON says so) and 12P of optimizer
states (fp32 master weights and two moments of Adam; `optimizer_kinds.py` has others); the last two are those of what trains:
adapters under LoRA, all but what `train.freeze` chooses. Stage 1 shards the optimizer states over the workers, stage 2 also the
gradients, stage 3 also the weights. ZeRO-Offload (Ren et al. 2021) moves optimizer states, and from stage 2 the gradients in
fp32, to the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.records import ModelShape
from cpt_ray.train.engine.optimizer_kinds import KINDS

_MASTER_BYTES = 4


class StateBytes(NamedTuple):
    """Bytes of one worker."""

    weights: int
    gradients: int
    optimizer: int
    host: int
    """The part of all three that is kept in host memory."""

    @property
    def device(self) -> int:
        """Bytes on the device."""
        return self.weights + self.gradients + self.optimizer - self.host


def state_bytes(shape: ModelShape, deepspeed: DeepSpeedConfig, train: TrainConfig, *, num_workers: int) -> StateBytes:
    """Estimate the bytes of one worker's states.

    Args:
        shape: The model's shape.
        deepspeed: The checked JSON.
        train: The study's train section.
        num_workers: Workers over which the states are sharded.
    """
    tree, stage = deepspeed.tree, deepspeed.zero_stage
    zero = tree.get("zero_optimization", {})
    parameters, trained = shape.parameters + (shape.adapter_parameters or 0), shape.trained_parameters
    compute = 4 if train.precision == "fp32" else 2
    # fp32 without ZeRO updates the weights in place; every other combination keeps a master copy.
    master = 0 if train.precision == "fp32" and stage == 0 else _MASTER_BYTES
    offload_optimizer = stage >= 1 and is_offloaded(zero, "offload_optimizer")
    offload_weights = stage == 3 and is_offloaded(zero, "offload_param")
    summed_in = tree.get("data_types", {}).get("grad_accum_dtype", "fp32")
    gradient = 4 if stage >= 1 and (summed_in == "fp32" or (offload_optimizer and stage >= 2)) else compute
    weights = _share(parameters * compute, num_workers if stage == 3 else 1)
    gradients = _share(trained * gradient, num_workers if stage >= 2 else 1)
    optimizer = _share(trained * (master + KINDS[train.optimizer].moment_bytes), num_workers if stage >= 1 else 1)
    host = (optimizer if offload_optimizer else 0) + (weights if offload_weights else 0)
    host += gradients if offload_optimizer and stage >= 2 else 0
    return StateBytes(weights, gradients, optimizer, host)


def checkpoint_bytes(shape: ModelShape, deepspeed: DeepSpeedConfig, train: TrainConfig) -> int:
    """Bytes of a checkpoint over all workers: weights, master weights and moments."""
    whole = state_bytes(shape, deepspeed, train, num_workers=1)
    return whole.weights + whole.optimizer


def _share(total: int, workers: int) -> int:
    return -(-total // workers)


def is_offloaded(zero: Mapping[str, Any], key: str) -> bool:
    """Whether a section of `zero_optimization`, `offload_optimizer` or `offload_param`, names a device."""
    section = zero.get(key) or {}
    return section.get("device", "none") in ("cpu", "nvme")
