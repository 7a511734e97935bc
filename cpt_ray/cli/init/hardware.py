"""Hardware by name, for `cpt-ray init`: memory, and how much a second of it trains, as rough figures.

In: `cpu`, `h100`, `8xa100-80`, or `here`. Out: `Hardware`. `cpt-ray plan` has finer profiles; these only choose a start.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import psutil

from cpt_ray.edges.device import read_device
from cpt_ray.errors import ConfigError

CARDS: dict[str, tuple[int, float]] = {
    "l4": (24, 121e12),
    "a10g": (24, 70e12),
    "a100-40": (40, 312e12),
    "a100-80": (80, 312e12),
    "h100": (80, 989e12),
    "h200": (141, 989e12),
    "b200": (180, 2250e12),
}
"""Memory in GB, and dense bf16 FLOP/s of the data sheets."""
UTILIZATION = 0.35
"""Of the data sheet's FLOP/s, what training reaches: published runs report 0.3 to 0.5."""
CORE_FLOPS = 1e11
"""FLOP/s that a CPU core trains with: 135M parameters on two cores with AVX512-BF16 take 220 to 530 tokens a second."""
_UNKNOWN_FLOPS = 50e12
_MOST_DEVICES = 4096
_BF16_SINCE = (8, 0)


@dataclass(frozen=True)
class Hardware:
    """Where a study will run."""

    name: str
    devices: int
    """Training workers: GPUs, or processes on a CPU."""
    memory_bytes: int
    """Of each device."""
    flops: float
    """FLOP/s that training reaches on each device."""
    is_gpu: bool
    precision: str = "bf16"

    def __str__(self) -> str:
        many = f"{self.devices} x " if self.devices > 1 else ""
        return f"{many}{self.name}, {self.memory_bytes / 1e9:.0f} GB"


def parse_hardware(text: str) -> Hardware:
    """The hardware of a name.

    Raises:
        ConfigError: If there is no such hardware.
    """
    match = re.fullmatch(r"(?:(\d{1,5})\s*x\s*)?([a-z0-9-]+)", text.strip().lower())
    name, devices = (match[2], int(match[1] or 1)) if match else ("", 1)
    if name == "here":
        return _here(devices)
    if name == "cpu":
        return _cpu(devices)
    if name not in CARDS or not 1 <= devices <= _MOST_DEVICES:
        raise ConfigError(
            f"{text!r} is no hardware that is known here",
            fix=f"use here, cpu or {', '.join(CARDS)}, with a number of devices in front if there are several: 8xh100",
        )
    gigabytes, flops = CARDS[name]
    return Hardware(name, devices, gigabytes * 10**9, flops * UTILIZATION, is_gpu=True)


def _cpu(devices: int) -> Hardware:
    # Half of the memory: the system, texts and the scoring of models need the rest.
    memory, cores = psutil.virtual_memory().total // 2, os.cpu_count() or 1
    return Hardware(f"CPU with {cores} cores", devices, memory // devices, CORE_FLOPS * cores / devices, is_gpu=False)


def _here(devices: int) -> Hardware:
    facts = read_device(ask_torch=False)
    if facts.card is None or facts.hidden_by is not None or facts.memory_bytes is None:
        return _cpu(devices)
    card = facts.card.lower()
    known = next((name for name in CARDS if name.split("-")[0] in re.split(r"[\s-]+", card)), None)
    flops = CARDS[known][1] * UTILIZATION if known else _UNKNOWN_FLOPS * UTILIZATION
    precision = "fp16" if facts.capability is not None and facts.capability < _BF16_SINCE else "bf16"
    return Hardware(facts.card, devices, facts.memory_bytes, flops, is_gpu=True, precision=precision)
