"""What a plan assumes of the hardware: the one that the command names, else the one that the study or this machine has.

In: the `runtime` section and what `cpt-ray plan` was asked. Out: a `Where`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import psutil

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.device import cpu_has_bf16
from cpt_ray.edges.ray_runtime import cluster_address
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import HardwareProfile, Price, find_profile, load_cpu
from cpt_ray.plan.worker import Place
from cpt_ray.records import Card
from cpt_ray.study.preflight.device import planned_card


class Choice(NamedTuple):
    """What a plan was asked to assume; None is what the study file says."""

    hardware: HardwareProfile | None = None
    workers: int | None = None
    price: Price | None = None


AS_CONFIGURED = Choice()


class Where(NamedTuple):
    """Where runs are planned to train."""

    hardware: HardwareProfile | None
    """None for a GPU of which only the memory is known."""
    place: Place
    workers: int
    cores: float
    """Of a worker."""
    card: Card | None
    room_bytes: int | None
    """Memory that a worker may fill."""
    device: str
    """By which trials are told apart: the name of the card here, or `cpu`."""
    ray: bool


def parse_workers_option(text: str) -> int:
    """The number of workers that a command names.

    Raises:
        ConfigError: If it is no number from 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--workers {text}: not a number of workers", fix="give a whole number of at least 1")
    return int(text)


def find_place(runtime: RuntimeConfig, choice: Choice = AS_CONFIGURED) -> Where:
    """What a plan assumes.

    Args:
        runtime: The `runtime` section.
        choice: What the command names.
    """
    workers = choice.workers or runtime.group.min
    card = planned_card(runtime)
    hardware = choice.hardware
    if hardware is None:
        hardware = find_profile(card.name) if card else None if runtime.wants_gpu else load_cpu(has_bf16=cpu_has_bf16())
    elif hardware.is_gpu:
        card = Card(hardware.description, hardware.memory) if hardware.memory else card
    else:
        card = None
    if hardware is not None and choice.price is not None:
        hardware = hardware.model_copy(update={"price": choice.price})
    on_gpu = hardware.is_gpu if hardware is not None else True
    ray = runtime.kind == "ray" or workers > 1
    return Where(
        hardware=hardware,
        place=Place(on_gpu=on_gpu, process="ray" if ray else "local", recycles=runtime.recycle_memory),
        workers=workers,
        cores=runtime.cpus_per_worker if runtime.kind == "ray" else float(os.cpu_count() or 1),
        card=card if on_gpu else None,
        room_bytes=(card.memory_bytes if card else None) if on_gpu else _host_room(runtime, hardware, workers),
        device=(card.name if card else "gpu") if on_gpu else "cpu",
        ray=ray,
    )


def _host_room(runtime: RuntimeConfig, hardware: HardwareProfile | None, workers: int) -> int | None:
    """Host memory of a worker: its share of this machine's, which all workers of a private Ray share."""
    if hardware is not None and hardware.memory is not None:
        return hardware.memory // workers
    elsewhere = runtime.kind == "ray" and cluster_address(runtime) is not None
    return None if elsewhere else psutil.virtual_memory().total // workers
