"""How many bytes training states take: per worker by ZeRO stage, and on disk.

Printed by `plan`, before anything is spent. In: a model's shape, the DeepSpeed JSON, the train section
and the number of workers. Out: a `MemoryPlan`. It counts model states only (`train/engine/state_bytes.py`): activations,
logits, communication buckets and the runtime's own memory come on top; `train.micro_batch_size` controls the first two.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.records import Card, MemoryPlan, ModelShape, RunSpec
from cpt_ray.train.engine.state_bytes import checkpoint_bytes, state_bytes


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
    states = state_bytes(shape, deepspeed, train, num_workers=num_workers)
    checkpoint = checkpoint_bytes(shape, deepspeed, train)
    export = shape.parameters * (4 if train.export_precision == "fp32" else 2)
    mine = [spec for spec in specs if spec.model == model]
    exports = sum((spec.budget_tokens is not None) + len(spec.trajectory_tokens) + len(spec.average_tokens) for spec in mine)
    kept = sum(train.keep_checkpoints + len(spec.branch_tokens) for spec in mine)
    return MemoryPlan(
        model=model,
        parameters=shape.parameters + (shape.adapter_parameters or 0),
        frozen_parameters=shape.parameters + (shape.adapter_parameters or 0) - shape.trained_parameters,
        zero_stage=deepspeed.zero_stage,
        precision=train.precision,
        num_workers=num_workers,
        weights_bytes=states.weights,
        gradients_bytes=states.gradients,
        optimizer_bytes=states.optimizer,
        device_bytes=states.device,
        host_bytes=states.host,
        checkpoint_bytes=checkpoint,
        export_bytes=export,
        disk_bytes=kept * checkpoint + exports * export,
        card=card,
    )
