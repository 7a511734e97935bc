"""The only door to facts about GPU and CPU: from `nvidia-smi` and torch's files, or, where torch is loaded anyway, from torch.

Out: `DeviceFacts`, for the rules in `config.devices`. Without torch it takes milliseconds where there is no NVIDIA driver.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import re
import runpy
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cpt_ray.config.devices import choose_device, require_precision
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.packages import versions
from cpt_ray.records import CpuProducts, DeviceFacts

_QUERY = ("--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits")
_TIMEOUT_S = 20
DRIVER = Path("/proc/driver/nvidia/version")
"""Written by NVIDIA's kernel module."""
PROCESSORS = Path("/proc/cpuinfo")
_BF16_FEATURES = {"amx_bf16", "avx512_bf16", "bf16"}
"""As /proc/cpuinfo names them; the last on ARM."""


@functools.cache
def read_device(*, ask_torch: bool) -> DeviceFacts:
    """Facts about this process's first GPU.

    Args:
        ask_torch: Whether to import torch, which takes seconds, and have it initialize CUDA.
    """
    facts = {**_torch_files(), **_nvidia(os.environ.get("CUDA_VISIBLE_DEVICES"))}
    return DeviceFacts.model_validate({**facts, **(_torch_says() if ask_torch else {})})


@functools.cache
def count_cards() -> int:
    """The GPUs of this machine that CUDA_VISIBLE_DEVICES leaves, as the driver lists them; 0 if it cannot be asked."""
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        ran = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    there = sum(line.startswith("GPU ") for line in ran.stdout.splitlines()) if ran.returncode == 0 else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    # As CUDA reads it: what stands behind an entry that is none is not visible.
    left = itertools.takewhile(lambda one: one not in ("", "-1"), (one.strip() for one in visible.split(",")))
    return min(there, len(list(left)))


@functools.cache
def cpu_products() -> CpuProducts:
    """How this machine's CPU multiplies matrices of bf16 fastest: in its units for bf16, or in fp32, with AVX-512 or without.

    From what the CPU says of itself, never from a measurement: that could fall differently at the next start, and a run that is
    resumed would then compute in another way. On Intel avx512_bf16 counts only beside AMX: it multiplies bf16 at half the rate
    at which it multiplies fp32 (docs/log.md), and virtual machines may show it alone.
    """
    said = set(PROCESSORS.read_text(encoding="utf-8").split()) if PROCESSORS.is_file() else set()
    units = said & _BF16_FEATURES
    if "GenuineIntel" in said and "amx_bf16" not in said:
        units.discard("avx512_bf16")
    return "bf16" if units else "avx512" if "avx512f" in said else "fp32"


def prove_device(runtime: RuntimeConfig, precisions: Mapping[str, str]) -> Literal["cpu", "gpu"]:
    """The device that this process computes on; imports torch.

    Args:
        runtime: The `runtime` section.
        precisions: Key of the study file to its value.

    Raises:
        ConfigError: If the device that is asked for cannot be used, or does not have a precision.
    """
    facts = read_device(ask_torch=True)
    device = choose_device(runtime, facts)
    if device == "gpu":
        require_precision(facts, precisions)
    return device


def _torch_files() -> dict[str, Any]:
    """The build of torch, from the file that names it."""
    spec = importlib.util.find_spec("torch")
    path = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin else None
    said = runpy.run_path(str(path)) if path is not None and path.is_file() else {}
    version = said.get("__version__") or versions("torch").get("torch", "")
    return {"torch": str(version), "cuda": said.get("cuda"), "hip": said.get("hip")}


def _nvidia(visible: str | None) -> dict[str, Any]:
    """The card as the driver describes it; the first of those that CUDA_VISIBLE_DEVICES leaves."""
    first = "0" if visible is None else visible.split(",")[0].strip()
    hidden = {"hidden_by": visible} if first in ("", "-1") else {}
    said = ""
    if shutil.which("nvidia-smi") is not None:
        chosen = () if hidden else (f"--id={first}",)
        try:
            ran = subprocess.run(
                ["nvidia-smi", *_QUERY, *chosen], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
            said = ran.stdout if ran.returncode == 0 else ""
        except (OSError, subprocess.TimeoutExpired):  # a driver that hangs or is half removed: the kernel module may still say
            said = ""
    return {**parse_smi(said), **hidden} if said else {**parse_module(_read(DRIVER)), **hidden}


def parse_smi(text: str) -> dict[str, Any]:
    """Facts from a line of `nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap`; MiB, without units."""
    fields = [field.strip() for field in text.strip().splitlines()[0].split(",")] if text.strip() else []
    if len(fields) != 4:
        return {}
    name, memory, driver, capability = fields
    found = re.fullmatch(r"(\d+)\.(\d+)", capability)
    return {
        "card": name,
        "memory_bytes": int(memory) << 20 if memory.isdigit() else None,
        "driver": driver,
        "capability": (int(found[1]), int(found[2])) if found else None,
    }


def parse_module(text: str) -> dict[str, Any]:
    """Facts from the kernel module's version file, where `nvidia-smi` is missing: a card, whose name it does not give."""
    found = re.search(r"(?:Kernel Module[^\n]*?)\s(\d+\.[\d.]+)\s", text)
    return {"card": "an NVIDIA GPU", "driver": found[1]} if found else {}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _torch_says() -> Mapping[str, Any]:
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        works = torch.cuda.is_available()
    if not works:
        return {"works": False, "problem": str(said[0].message).splitlines()[0] if said else ""}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    named = (re.fullmatch(r"(?:sm|compute)_(\d+)(\d)[a-z]*", arch) for arch in torch.cuda.get_arch_list())
    return {
        "works": True,
        "card": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": (properties.major, properties.minor),
        "hidden_by": None,
        "kernels": tuple((int(found[1]), int(found[2])) for found in named if found),
    }
