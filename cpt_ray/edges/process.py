"""Environment variables to set before libraries are imported, or before a process starts."""

import os
from pathlib import Path

ALLOCATOR = "GLIBC_TUNABLES"
"""Settings of glibc's allocator; read when a process starts."""
RECYCLE_MEMORY = (
    # glibc returns every large buffer to the system and faults it in again at the next step: 0.1 to 0.5 million page
    # faults per step at 135M parameters, a fifth of the time. The price is that a process keeps its peak memory.
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:glibc.malloc.top_pad=268435456"
)


def choose_accelerator() -> None:
    """Tell DeepSpeed to use the CPU if there is no GPU: its own detection warns at every import."""
    if "CUDA_VISIBLE_DEVICES" not in os.environ and not Path("/dev/nvidia0").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
