"""The `runtime` and `tracking` sections: where a study runs and where its numbers are shown.

Nothing in these sections enters a fingerprint: the same study moved to other hardware finds its artifacts again.
"""

from typing import Literal

from pydantic import Field

from cpt_ray.config.values import Bytes, Seconds, Section


class RuntimeConfig(Section):
    """Workers and resources."""

    kind: Literal["local", "ray"] = Field(
        default="ray", description="local: training in this process, one worker; ray: Ray Train workers"
    )
    address: str | None = Field(
        default=None, description="Ray cluster to join; default: RAY_ADDRESS, else a private Ray on this machine"
    )
    num_workers: int = Field(default=1, ge=1, description="training workers")
    cpus_per_worker: float = Field(default=1, gt=0, description="CPUs of a training worker")
    gpus_per_worker: float = Field(default=0, ge=0, description="GPUs of a training worker")
    prepare_workers: int = Field(default=2, ge=1, description="units prepared at once")
    evaluate_workers: int = Field(default=2, ge=1, description="models scored at once")
    max_failures: int = Field(default=3, ge=0, description="worker failures a run survives; then it stops")
    collective_timeout: Seconds = Field(default=600, ge=10, description="longest wait of a collective")
    object_store: Bytes = Field(default=200_000_000, ge=80_000_000, description="object store of a private Ray, bytes")
    recycle_memory: bool = Field(
        default=True,
        description="keep freed memory in CPU training processes (GLIBC_TUNABLES): faster steps, memory is not returned",
    )


class TrackingConfig(Section):
    """MLflow."""

    uri: str | None = Field(default=None, description="tracking URI; default: sqlite in the study's root")
    experiment: str = Field(default="cpt-ray", description="experiment name")
