"""The `runtime` and `tracking` sections: where a study runs and where its numbers are tracked.

Nothing in these sections enters a fingerprint: the same study on other hardware reuses its artifacts.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from cpt_ray.config.plain_text import shorten
from cpt_ray.config.values import Bytes, FolderText, Seconds, Section


class Workers(Section):
    """Number of training workers: an integer, or `{min, max}` for an elastic group."""

    min: int = Field(ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "Workers":
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, but max is {self.max}; swap them")
        return self

    @model_serializer
    def _written(self) -> int | dict[str, int]:
        return {"min": self.min, "max": self.max} if self.elastic else self.min

    @property
    def elastic(self) -> bool:
        """Whether the group may be resized."""
        return self.min != self.max

    def __str__(self) -> str:
        return f"{self.min} to {self.max}" if self.elastic else str(self.min)


def parse_workers(value: object) -> Any:
    """Read `2`, or `{min: 1, max: 8}`.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return {"min": value, "max": value}
    if not isinstance(value, (dict, Workers)):
        raise ValueError(f"expected a number of workers, or {{min: 1, max: 8}}, saw {shorten(value)}")
    return value


class RuntimeConfig(Section):
    """Workers and resources."""

    kind: Literal["local", "ray"] = Field(
        default="ray",
        description="local: train in this process, on its GPU if there is one, without Ray; ray: Ray Train workers",
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        default="auto",
        description="where `kind: local` computes; auto: on the GPU if there is one, or as `gpus_per_worker` says. With "
        "`kind: ray`, `gpus_per_worker` decides",
    )
    address: str | None = Field(
        default=None,
        description="address of the Ray cluster; default: `RAY_ADDRESS` if set, else a private Ray on this machine",
    )
    workers: Annotated[Workers, BeforeValidator(parse_workers)] = Field(
        default=Workers(min=1, max=1),
        description="training workers; `{min: 1, max: 8}` resizes with the cluster, with the same global batch, sample order "
        "and counters; `kind: local` has one",
    )
    resize_interval: Seconds = Field(
        default=60,
        ge=1,
        description="how often an elastic group checks whether the cluster has room for more workers, in seconds",
    )
    scratch: FolderText | None = Field(
        default=None,
        description="folder on each node's local disk where checkpoints are staged before upload to `study.root`, and where a "
        "root in a bucket is mirrored; default: the system's temporary folder",
    )
    cache: Bytes | None = Field(
        default=None,
        ge=1,
        description="with a root in a bucket: most bytes of text and shards that a node keeps in its mirror; default: as many "
        "as leave a twentieth of its disk free",
    )
    cpus_per_worker: float = Field(default=1, gt=0, description="CPUs per training worker")
    gpus_per_worker: float = Field(default=0, ge=0, description="GPUs per training worker")
    gpu_memory: Bytes | None = Field(
        default=None,
        ge=1,
        description="memory of the GPU that a worker gets, in bytes, for `plan` on a machine without it; default: that of the "
        "GPU here",
    )
    prepare_workers: int = Field(default=2, ge=1, description="number of units prepared in parallel")
    evaluate_workers: int = Field(default=2, ge=1, description="number of models scored in parallel")
    max_failures: int = Field(default=3, ge=0, description="worker failures that a run survives before it stops")
    collective_timeout: Seconds = Field(default=600, ge=10, description="timeout of a collective operation, in seconds")
    object_store: Bytes = Field(default=200_000_000, ge=80_000_000, description="object store size of a private Ray, in bytes")
    recycle_memory: bool = Field(
        default=True,
        description="let CPU training processes keep freed memory (GLIBC_TUNABLES): faster steps, but memory is not returned "
        "to the system",
    )

    @model_validator(mode="after")
    def _device_fits_kind(self) -> "RuntimeConfig":
        if self.kind == "ray" and self.device != "auto" and (self.device == "gpu") != (self.gpus_per_worker > 0):
            works = "at least 1" if self.device == "gpu" else "0"
            raise ValueError(
                f"device is {self.device}, but kind is ray and gpus_per_worker is {self.gpus_per_worker:g}; set it to {works}, "
                "or leave device out"
            )
        return self

    @property
    def group(self) -> Workers:
        """The workers that train: one with `kind: local`."""
        return Workers(min=1, max=1) if self.kind == "local" else self.workers

    @property
    def wants_gpu(self) -> bool | None:
        """Whether a GPU is asked for; None to use one if it is there."""
        if self.device != "auto":
            return self.device == "gpu"
        if self.gpus_per_worker > 0:
            return True
        return False if self.kind == "ray" else None

    @property
    def gpu_key(self) -> str:
        """The setting that asks for a GPU, as messages name it."""
        if self.device == "auto":
            return f"runtime.gpus_per_worker is {self.gpus_per_worker:g}"
        return f"runtime.device is {self.device}"


class TrackingConfig(Section):
    """MLflow, if it is installed."""

    enabled: bool = Field(
        default=True, description="mirror the study into MLflow; without the package mlflow nothing is, and one line says so"
    )
    uri: str | None = Field(default=None, description="MLflow tracking URI; default: a sqlite database in `study.root`")
    experiment: str = Field(default="cpt-ray", description="MLflow experiment name")
