"""How much memory a worker takes at its peak, and how large a checkpoint and an export are.

Printed by `plan`, before anything is spent. In: a model's shape, the DeepSpeed JSON, the train section, the number of workers
and what one does at a time. Out: a `MemoryPlan`, of model states (`train/engine/state_bytes.py`), of what a pass keeps and of
what surrounds both (`plan/worker.py`). Guarantee: pure arithmetic; a trial shifts it by what it measured beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.plan.worker import KEPT_BY_RUNS, Place, worker_bytes
from cpt_ray.records import Card, MemoryPlan, ModelShape, RunSpec
from cpt_ray.train.engine.state_bytes import checkpoint_bytes, state_bytes
from cpt_ray.train.order.batch_split import BatchSplit

_CPU_PASS_TOKENS = 2048
"""`train.micro_batch_size: auto` on a CPU (`train/engine/micro_batch.py`)."""
_GPU_PASS_TOKENS = 65_536


class Work(NamedTuple):
    """What a worker does at a time, where, and with how much memory."""

    place: Place
    row_tokens: int
    card: Card | None = None
    """The GPU of a worker, where it is known."""
    room_bytes: int | None = None
    """The memory that a worker may fill; None where it is not known."""
    measured_bytes: int | None = None
    """What a trial took beyond the estimates."""


def estimate_memory(
    model: str,
    *,
    shape: ModelShape,
    deepspeed: DeepSpeedConfig,
    train: TrainConfig,
    num_workers: int,
    work: Work,
    specs: Sequence[RunSpec] = (),
) -> MemoryPlan:
    """Estimate the memory of one model.

    Args:
        model: Its name.
        shape: Its shape.
        deepspeed: The checked JSON.
        train: The study's train section; with `micro_batch_size: auto` the rows that fit.
        num_workers: Workers over which the states are sharded.
        work: What one of them does at a time.
        specs: The study's runs: on a CPU, a worker that trains several keeps some memory of each.
    """
    rows = train.micro_batch_size
    if rows == "auto":
        rows = largest_rows(shape, deepspeed, train, num_workers=num_workers, work=work) or 1
    states = state_bytes(shape, deepspeed, train, num_workers=num_workers)
    rest = worker_bytes(
        shape, deepspeed, train, num_workers=num_workers, pass_tokens=rows * work.row_tokens, place=work.place,
        compiled=is_compiled(train, work.place),
    )  # fmt: skip
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
        checkpoint_bytes=checkpoint_bytes(shape, deepspeed, train),
        export_bytes=shape.parameters * (4 if train.export_precision == "fp32" else 2),
        card=work.card,
        on_gpu=work.place.on_gpu,
        rows=rows,
        row_tokens=work.row_tokens,
        activations_bytes=rest.activations,
        loss_bytes=rest.loss,
        buffers_bytes=rest.buffers,
        base_bytes=rest.base,
        spare_bytes=rest.spare + (KEPT_BY_RUNS if len(specs) > 1 and work.place.recycles and not work.place.on_gpu else 0),
        measured_bytes=work.measured_bytes,
        host_base_bytes=rest.host,
        room_bytes=work.room_bytes,
    )


def is_compiled(train: TrainConfig, place: Place) -> bool:
    """Whether decoder layers run compiled."""
    return place.on_gpu if train.compile == "auto" else train.compile


def largest_rows(
    shape: ModelShape, deepspeed: DeepSpeedConfig, train: TrainConfig, *, num_workers: int, work: Work, limited: bool = True
) -> int | None:
    """The largest micro-batch that fits a worker and divides its rows of a step, so that no row is idle; None if none fits.

    Args:
        shape: The model's shape.
        deepspeed: The checked JSON.
        train: The study's train section.
        num_workers: Workers over which the states are sharded.
        work: What one of them does at a time; where its memory is not known, every micro-batch fits.
        limited: Stop where a device is no faster, as `train.micro_batch_size: auto` does.
    """
    rows = BatchSplit(train.global_batch_size, num_workers, 1).rows_per_worker
    most = _GPU_PASS_TOKENS if work.place.on_gpu else _CPU_PASS_TOKENS
    top = min(rows, max(1, most // max(1, work.row_tokens))) if limited else rows
    for tried in range(top, 0, -1):
        if rows % tried == 0:
            plan = estimate_memory(
                "",
                shape=shape,
                deepspeed=deepspeed,
                train=train.model_copy(update={"micro_batch_size": tried}),
                num_workers=num_workers,
                work=work,
            )
            if plan.fits is not False:
                return tried
    return None
