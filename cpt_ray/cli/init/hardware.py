"""Hardware by name, for `cpt-ray init`: memory, and how much a second of it trains, by the profiles of `cpt-ray plan`.

In: `cpu`, `h100`, `8xa100-80`, `here`, or the file of a profile. Out: `Hardware`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import psutil

from cpt_ray.edges.device import cpu_products, read_device
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import HardwareProfile, find_profile, load_cpu, load_hardware, profile_names

_UNKNOWN_FLOPS = 17.5e12
"""FLOP/s that a card without a profile is taken to train with."""
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
    match = re.fullmatch(r"(?:(\d{1,5})\s*x\s*)?([a-z0-9-]+|.+\.ya?ml)", text.strip(), re.IGNORECASE)
    wanted, devices = (match[2], int(match[1] or 1)) if match else ("", 1)
    is_file = wanted.lower().endswith((".yaml", ".yml"))
    name = wanted if is_file else wanted.lower()
    if not (is_file or name in ("here", "cpu", *card_names())) or not 1 <= devices <= _MOST_DEVICES:
        raise ConfigError(
            f"{text!r} is no hardware that is known here",
            fix=f"use here, cpu, {', '.join(card_names())} or the file of a profile of your own (docs/plan.md), with a number "
            "of devices in front if there are several: 8xh100",
        )
    if name == "here":
        return _here(devices)
    if name == "cpu":
        return _cpu(devices)
    profile = load_hardware(name)
    if not profile.is_gpu:
        return _cpu(devices, profile)
    if profile.memory is None:
        raise ConfigError(f"{name}: missing key memory", fix="add the memory of a card, such as memory: 80GB")
    return Hardware(profile.name, devices, profile.memory, _trained_with(profile), is_gpu=True)


def card_names() -> list[str]:
    """Names of the GPUs that have a profile."""
    return [name for name in profile_names() if load_hardware(name).is_gpu]


def _trained_with(profile: HardwareProfile) -> float:
    """FLOP/s that training reaches on a card or a core."""
    return profile.peak_bf16_flops * profile.achieved_share


def _cpu(devices: int, core: HardwareProfile | None = None) -> Hardware:
    # Half of the memory: the system, texts and the scoring of models need the rest.
    memory, cores = psutil.virtual_memory().total // 2, os.cpu_count() or 1
    core = core or load_cpu(cpu_products())
    return Hardware(
        f"CPU with {cores} cores",
        devices,
        memory // devices,
        _trained_with(core) * cores / devices,
        is_gpu=False,
    )


def _here(devices: int) -> Hardware:
    facts = read_device(ask_torch=False)
    if facts.card is None or facts.hidden_by is not None or facts.memory_bytes is None:
        return _cpu(devices)
    profile = find_profile(facts.card)
    flops = _trained_with(profile) if profile else _UNKNOWN_FLOPS
    precision = "fp16" if facts.capability is not None and facts.capability < _BF16_SINCE else "bf16"
    return Hardware(facts.card, devices, facts.memory_bytes, flops, is_gpu=True, precision=precision)
