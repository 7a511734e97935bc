"""What a plan assumes of the hardware: the one that the command names, else the one that the study or this machine has.

In: the `runtime` section and what `cpt-ray plan` was asked. Out: a `Where`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import psutil

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.device import count_cards, cpu_products
from cpt_ray.edges.ray_runtime import cluster_address, cluster_may_grow, joined, private_cpus, working_nodes
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import HardwareProfile, Price, find_profile, load_cpu
from cpt_ray.plan.worker import Place
from cpt_ray.records import Card, ClusterNode
from cpt_ray.study.preflight.device import planned_card
from cpt_ray.train.groups.room import parallel_groups


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
    groups: int | None = 1
    """Groups of workers that there is room for; None on a cluster that was not asked."""


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
        hardware = find_profile(card.name) if card else None if runtime.wants_gpu else load_cpu(cpu_products())
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
        groups=_groups(runtime, choice) if ray else 1,
    )


def _groups(runtime: RuntimeConfig, choice: Choice) -> int | None:
    """How many groups of workers train at once, by the rule that starts them."""
    elsewhere = choice.hardware is not None or choice.workers is not None
    nodes = None if elsewhere else _nodes(runtime)
    if nodes is None:
        # Hardware that the command names is taken to be there for one group.
        return runtime.parallel_runs if runtime.parallel_runs != "auto" else 1 if elsewhere else None
    private = cluster_address(runtime) is None
    return parallel_groups(runtime, nodes, private=private, may_grow=not private and cluster_may_grow())[0]


def _nodes(runtime: RuntimeConfig) -> list[ClusterNode] | None:
    """What runs would have: the nodes of the cluster if this process has joined it, or this machine; None if neither is so."""
    if joined():
        return working_nodes(runtime)
    if cluster_address(runtime) is not None or (runtime.gpus_per_worker and not count_cards()):
        return None
    return [ClusterNode("here", {"CPU": float(private_cpus(runtime)), "GPU": float(count_cards())}, {})]


def _host_room(runtime: RuntimeConfig, hardware: HardwareProfile | None, workers: int) -> int | None:
    """Host memory of a worker: its share of this machine's, which all workers of a private Ray share."""
    if hardware is not None and hardware.memory is not None:
        return hardware.memory // workers
    elsewhere = runtime.kind == "ray" and cluster_address(runtime) is not None
    return None if elsewhere else psutil.virtual_memory().total // workers
