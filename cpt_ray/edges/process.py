"""What to set before libraries are imported, or before a process starts: environment variables, and how imports run."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
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


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import large libraries without garbage collection, which takes a quarter of the time and finds nothing to free.

    What was imported is exempt from later collections.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.enable()


@contextlib.contextmanager
def pretend_absent(module: str) -> Iterator[None]:
    """Let libraries that import `module` only if it is installed believe that it is not; an imported one stays."""
    if module in sys.modules:
        yield
        return
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]
    modules[module] = None  # how Python marks a module that cannot be imported
    try:
        yield
    finally:
        del modules[module]
