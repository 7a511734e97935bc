"""What is known of the device that a process may compute on, of a cluster's nodes, and of what `doctor` looks at."""

from __future__ import annotations

from typing import Literal, NamedTuple

from cpt_ray.records.base import Record

CpuProducts = Literal["bf16", "avx512", "fp32"]
"""What a CPU multiplies matrices of bf16 in: its units for bf16, or fp32 with AVX-512 or without."""


class Card(NamedTuple):
    """A GPU and its memory in bytes."""

    name: str
    memory_bytes: int


class ClusterNode(NamedTuple):
    """A living node of a Ray cluster."""

    name: str
    """Its host name."""
    resources: dict[str, float]
    """All that it has, free or not, by the names that Ray gives resources."""
    labels: dict[str, str]
    id: str = ""
    """Ray's, by which a task is placed there."""
    address: str = ""
    is_head: bool = False


class DeviceFacts(Record):
    """The GPU of this machine, its driver, and the torch that would use it. `config.devices` decides by them."""

    card: str | None = None
    """Name of the first GPU that this process may use; None if there is none."""
    memory_bytes: int | None = None
    capability: tuple[int, int] | None = None
    """CUDA compute capability."""
    driver: str | None = None
    """Version of the NVIDIA driver."""
    hidden_by: str | None = None
    """The value of CUDA_VISIBLE_DEVICES, if it hides every GPU."""
    torch: str
    """Version of torch."""
    cuda: str | None = None
    """The CUDA version that torch was built for."""
    hip: str | None = None
    """The same for ROCm."""
    kernels: tuple[tuple[int, int], ...] = ()
    """Compute capabilities that torch has kernels for; empty where it was not asked."""
    works: bool | None = None
    """Whether torch can use the GPU; None where it was not asked, because importing it takes seconds."""
    problem: str = ""
    """What torch said if it cannot."""

    @property
    def torch_build(self) -> str:
        """Torch with its build, as messages name it."""
        build = f"CUDA {self.cuda}" if self.cuda else f"ROCm {self.hip}" if self.hip else "a CPU build"
        return f"torch {self.torch} ({build})"


class Finding(NamedTuple):
    """The result of one check."""

    what: str
    """What was looked at."""
    found: str
    level: Literal["ok", "warn", "fail"] = "ok"
    """`warn`: something will be slower, or may fail later; `fail`: something cannot work."""
    fix: str = ""
    """To paste, or what to do; empty if all is well."""
