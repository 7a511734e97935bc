"""The `runtime` and `tracking` sections: where a study runs and where its numbers are shown.

Nothing in these sections enters a fingerprint: the same study moved to other hardware finds its artifacts again.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from cpt_ray.config.values import Bytes, Seconds, Section


class Workers(Section):
    """How many training workers: written as a number, or as `{min, max}` for a group that follows the cluster."""

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
        """Whether the group may grow and shrink."""
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
        raise ValueError(f"expected a number of workers, or {{min: 1, max: 8}}, saw {value!r}")
    return value


class RuntimeConfig(Section):
    """Workers and resources."""

    kind: Literal["local", "ray"] = Field(
        default="ray", description="local: training in this process, one worker; ray: Ray Train workers"
    )
    address: str | None = Field(
        default=None, description="Ray cluster to join; default: RAY_ADDRESS, else a private Ray on this machine"
    )
    workers: Annotated[Workers, BeforeValidator(parse_workers)] = Field(
        default=Workers(min=1, max=1),
        description="training workers; `{min: 1, max: 8}` grows and shrinks with the cluster, same batch, order and counters",
    )
    resize_interval: Seconds = Field(
        default=60, ge=1, description="how often an elastic group looks whether the cluster has room for more workers"
    )
    scratch: str | None = Field(
        default=None,
        description="folder on each node's own disk for checkpoints on their way to study.root; default: the temporary folder",
    )
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
