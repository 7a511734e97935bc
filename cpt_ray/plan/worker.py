"""What a worker's memory holds at its peak, beside model states: activations, loss, buffers, the runtime itself, and slack.

After `train/engine/state_bytes.py`. In: a shape, settings, and what the worker computes on. Out: `WorkerBytes`. Activations and
loss are counted (`train/engine/activation_bytes.py`), buffers are read from the DeepSpeed JSON. Runtime and slack are, on a
CPU, those of 15 measured settings, from which a plan is at most 13 % off (docs/log.md, 2026-11-29); on a GPU, the usual ones.
`cpt-ray plan --measure` replaces what is off.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cpt_ray.config.deepspeed import HIDDEN_SIZE_RULES, DeepSpeedConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.records import ModelShape
from cpt_ray.train.engine.activation_bytes import activation_bytes, compute_bytes, loss_bytes
from cpt_ray.train.engine.state_bytes import is_offloaded

_MIB = 1 << 20
HOST_BASE = 480_000_000
"""Python with torch, transformers and DeepSpeed on a CPU, before a model is loaded."""
MORE_BASE = {"bare": 0, "local": 120_000_000, "ray": 90_000_000}
"""What a process has more: none in a trial's, a study's driver with `runtime.kind: local`, a worker of Ray Train."""
GPU_HOST_BASE = 3_000_000_000
"""Host memory of a process that uses CUDA: its libraries are loaded and pinned buffers kept."""
_CUDA_CONTEXT = 500 * _MIB
_NCCL = 400 * _MIB
"""Channels of a process group of several workers."""
_TOP_PAD = 1 << 28
"""Of `runtime.recycle_memory`: the heap grows by that much at once (`edges/process.py`)."""
KEPT_BY_RUNS = 130_000_000
"""What glibc's heap keeps of a run when the same process trains another (docs/log.md, 2026-11-29: 130 to 280 MB)."""
_HEAP_SLACK, _CARD_SLACK = 0.2, 0.05
"""Share of what comes and goes that is lost to fragmentation, in glibc's heap (measured) and in torch's cache."""
_BUCKET = 500_000_000
"""DeepSpeed's default of `reduce_bucket_size`, in elements."""
_LIVE = 1_000_000_000
"""DeepSpeed's default of `stage3_max_live_parameters`."""


class Place(NamedTuple):
    """What a worker runs on and under."""

    on_gpu: bool
    process: Literal["bare", "local", "ray"]
    """A key of `MORE_BASE`."""
    recycles: bool = True
    """`runtime.recycle_memory`, of effect on a CPU."""


class WorkerBytes(NamedTuple):
    """Bytes at a worker's peak, beside its model states."""

    activations: int
    loss: int
    buffers: int
    base: int
    spare: int
    host: int
    """In host memory, where that is not where the model computes."""


def worker_bytes(
    shape: ModelShape,
    deepspeed: DeepSpeedConfig,
    train: TrainConfig,
    *,
    num_workers: int,
    pass_tokens: int,
    place: Place,
    compiled: bool,
) -> WorkerBytes:
    """Estimate what comes on top of model states.

    Args:
        shape: The model's shape.
        deepspeed: The checked JSON.
        train: The study's train section.
        num_workers: Workers over which the states are sharded.
        pass_tokens: Tokens of a forward pass.
        place: What the worker runs on.
        compiled: Whether decoder layers run compiled.
    """
    activations = activation_bytes(shape, train, tokens=pass_tokens, compiled=compiled)
    loss = loss_bytes(shape, train, tokens=pass_tokens, on_gpu=place.on_gpu)
    buckets, step = _buckets(shape, deepspeed, train, place), _step_copies(shape, deepspeed, train, num_workers, place)
    if place.on_gpu:
        # torch's cache gives the step what the passes have freed.
        buffers = buckets + max(0, step - activations - loss)
        base = _CUDA_CONTEXT + (_NCCL if num_workers > 1 else 0)
        return WorkerBytes(
            activations, loss, buffers, base, int(_CARD_SLACK * (activations + loss + buffers)), _host_base(place)
        )
    # glibc does not: passes and step run in different threads, which have a heap each.
    slack = int(_HEAP_SLACK * (activations + loss)) + (_TOP_PAD if place.recycles else 0)
    return WorkerBytes(activations, loss, buckets + step, _host_base(place), slack, 0)


def _host_base(place: Place) -> int:
    return (GPU_HOST_BASE if place.on_gpu else HOST_BASE) + MORE_BASE[place.process]


def _buckets(shape: ModelShape, deepspeed: DeepSpeedConfig, train: TrainConfig, place: Place) -> int:
    """Gradients on their way into their sum and, at stage 3, whole weights of the layers in use."""
    stage, size = deepspeed.zero_stage, compute_bytes(train)
    if stage == 0:
        return 0
    zero = deepspeed.tree.get("zero_optimization", {})
    given = zero.get("reduce_bucket_size", _BUCKET)
    bucket = HIDDEN_SIZE_RULES["reduce_bucket_size"](shape.hidden_size) if given == "auto" else int(given)
    buckets = min(bucket, shape.trained_parameters) * size * (2 if zero.get("overlap_comm") else 1)
    if stage < 3:
        return buckets
    whole = size * min(shape.parameters, int(zero.get("stage3_max_live_parameters", _LIVE)))
    return buckets + whole * (1 if place.on_gpu else 2)  # on a CPU they are gathered into a second copy


def _step_copies(shape: ModelShape, deepspeed: DeepSpeedConfig, train: TrainConfig, num_workers: int, place: Place) -> int:
    """What a step copies: the gradients of its shard in fp32, and on CPUs, where gloo does not work in place, the weights."""
    if deepspeed.zero_stage == 0:
        return 0
    offloads = is_offloaded(deepspeed.tree.get("zero_optimization", {}), "offload_optimizer")
    shard = 4 * shape.trained_parameters // num_workers
    if place.on_gpu:
        return 0 if offloads else shard
    exchanged = shape.trained_parameters * compute_bytes(train) if num_workers > 1 else 0
    return exchanged + (shard if num_workers > 1 or offloads else 0)
