"""A worker's process before it has a model: its threads, its device and its process group.

The same for a worker of a run, a worker of a trial and a single process. Guarantee: on a machine with several GPUs, each worker
allocates, computes and communicates on its own.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.device import prove_device


def prepare_process(runtime: RuntimeConfig, *, precision: str, threads: int | None, join: bool = False) -> torch.device:
    """Set this process up for training.

    Args:
        runtime: The `runtime` section.
        precision: `train.precision`.
        threads: Threads that torch computes with on the CPU; None leaves them as they are.
        join: Whether to join the group that the environment describes, if it does; otherwise a process without a group is one
            of its own.

    Returns:
        The device that this worker computes on, which is torch's current one.

    Raises:
        ConfigError: If the device that is asked for cannot be used, or does not have the precision.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    kind = prove_device(runtime, {"train.precision": precision})
    if kind == "gpu":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if join and "WORLD_SIZE" in os.environ:
        dist.init_process_group(_backend(on_gpu=kind == "gpu"))
    require_process_group()
    return torch.device("cuda", torch.cuda.current_device()) if kind == "gpu" else torch.device("cpu")


def require_process_group() -> None:
    """Form a process group of one if this process has none. DeepSpeed also reads its ranks from the environment."""
    if dist.is_initialized():
        return
    os.environ.update({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"})
    backend = _backend(on_gpu=torch.cuda.is_available())
    dist.init_process_group(backend, init_method="tcp://127.0.0.1:0", rank=0, world_size=1)


def _backend(*, on_gpu: bool) -> str:
    return "nccl" if on_gpu else "gloo"
