"""How many bytes training states take: per worker by ZeRO stage, and on disk.

Printed by `plan`, before anything is spent. In: a model's shape, the DeepSpeed JSON, the train section
and the number of workers. Out: a `MemoryPlan`. It estimates model states only: activations, logits, communication
buckets and the runtime's own memory come on top; `train.micro_batch_size` controls the first two.

The formula is that of ZeRO (Rajbhandari et al. 2020, sections 3.1 and 5): with P parameters, mixed precision keeps 2P bytes
of weights, 4P of gradients (summed in fp32; 2P at stage 0 or where the JSON says so) and 12P of optimizer states (fp32 master
weights and two moments of Adam); under LoRA the last two are those of the adapters alone. Stage 1 shards the
optimizer states over the workers, stage 2 also the gradients, stage 3 also the weights. ZeRO-Offload (Ren et al.
2021) moves optimizer states, and from stage 2 the gradients in fp32, to the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.records import Card, MemoryPlan, ModelShape, RunSpec

_MOMENT_BYTES = 8
_MASTER_BYTES = 4


def estimate_memory(
    model: str,
    *,
    shape: ModelShape,
    deepspeed: DeepSpeedConfig,
    train: TrainConfig,
    num_workers: int,
    specs: Sequence[RunSpec] = (),
    card: Card | None = None,
) -> MemoryPlan:
    """Estimate the bytes of model states for one model.

    Args:
        model: Its name.
        shape: Its shape.
        deepspeed: The checked JSON.
        train: The study's train section.
        num_workers: Workers over which the states are sharded.
        specs: The study's runs; those of this model count toward disk.
        card: The GPU of a worker, where it is known.
    """
    tree, stage = deepspeed.tree, deepspeed.zero_stage
    zero = tree.get("zero_optimization", {})
    parameters, trained = shape.parameters + (shape.adapter_parameters or 0), shape.trained_parameters
    compute = 4 if train.precision == "fp32" else 2
    # fp32 without ZeRO updates the weights in place; every other combination keeps a master copy.
    master = 0 if train.precision == "fp32" and stage == 0 else _MASTER_BYTES
    offload_optimizer = stage >= 1 and _is_offloaded(zero, "offload_optimizer")
    offload_weights = stage == 3 and _is_offloaded(zero, "offload_param")
    summed_in = tree.get("data_types", {}).get("grad_accum_dtype", "fp32")
    gradient = 4 if stage >= 1 and (summed_in == "fp32" or (offload_optimizer and stage >= 2)) else compute
    weights = _share(parameters * compute, num_workers if stage == 3 else 1)
    gradients = _share(trained * gradient, num_workers if stage >= 2 else 1)
    optimizer = _share(trained * (master + _MOMENT_BYTES), num_workers if stage >= 1 else 1)
    host = (optimizer if offload_optimizer else 0) + (weights if offload_weights else 0)
    host += gradients if offload_optimizer and stage >= 2 else 0
    checkpoint = parameters * compute + trained * (master + _MOMENT_BYTES)
    export = shape.parameters * (4 if train.export_precision == "fp32" else 2)
    mine = [spec for spec in specs if spec.model == model]
    exports = sum((spec.budget_tokens is not None) + len(spec.trajectory_tokens) for spec in mine)
    kept = sum(train.keep_checkpoints + len(spec.branch_tokens) for spec in mine)
    return MemoryPlan(
        model=model,
        parameters=parameters,
        zero_stage=stage,
        precision=train.precision,
        num_workers=num_workers,
        weights_bytes=weights,
        gradients_bytes=gradients,
        optimizer_bytes=optimizer,
        device_bytes=weights + gradients + optimizer - host,
        host_bytes=host,
        checkpoint_bytes=checkpoint,
        export_bytes=export,
        disk_bytes=kept * checkpoint + exports * export,
        card=card,
    )


def _share(total: int, workers: int) -> int:
    return -(-total // workers)


def _is_offloaded(zero: Mapping[str, Any], key: str) -> bool:
    section = zero.get(key) or {}
    return section.get("device", "none") in ("cpu", "nvme")
