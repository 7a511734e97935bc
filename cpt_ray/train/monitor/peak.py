"""The peak that MFU is measured against: the rate of a large matrix product on this worker."""

from __future__ import annotations

import time

import torch


def measure_peak_flops(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.3) -> float:
    """The FLOP/s of a large square matrix product on this worker: the peak that MFU is measured against."""
    size = _peak_size(device)
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    left @ right
    best, spent = 0.0, 0.0
    while spent < seconds:
        _synchronize(device)
        start = time.perf_counter()
        left @ right
        _synchronize(device)
        elapsed = time.perf_counter() - start
        best, spent = max(best, 2 * size**3 / elapsed), spent + elapsed
    return best


def peak_basis(device: torch.device, dtype: torch.dtype) -> str:
    """A description of how `measure_peak_flops` finds the peak."""
    size, name = _peak_size(device), str(dtype).removeprefix("torch.")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"measured on each worker ({where}) as the fastest {size} x {size} {name} matrix product, summed over workers"


def _peak_size(device: torch.device) -> int:
    return 8192 if device.type == "cuda" else 1536


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
