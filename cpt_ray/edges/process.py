"""Environment that a process must have before its libraries are imported, or before it starts."""

import os
from pathlib import Path

ALLOCATOR = "GLIBC_TUNABLES"
"""Settings of glibc's allocator; read when a process starts."""
RECYCLE_MEMORY = (
    # glibc gives every large buffer back to the system and faults it in again at the next step: 0.1 to 0.5 million page
    # faults per step at 135M parameters, a fifth of the time. The price is that a process keeps its peak.
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:glibc.malloc.top_pad=268435456"
)


def choose_accelerator() -> None:
    """Tell DeepSpeed to use the CPU where there is no GPU: left to find that out itself, it warns at every import."""
    if "CUDA_VISIBLE_DEVICES" not in os.environ and not Path("/dev/nvidia0").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
