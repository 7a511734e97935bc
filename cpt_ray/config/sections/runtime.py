"""The `runtime` and `tracking` sections: where a study runs and where its numbers are tracked.

Nothing in these sections enters a fingerprint: the same study on other hardware reuses its artifacts.
"""

import os
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

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


_NO_LIMIT = 1_000_000
_LABEL = re.compile(r"!?(in\([\w.-]+(, ?[\w.-]+)*\)|[\w.-]+)")
"""What Ray takes as the value of a node label, with its operators."""


def parse_number_or_auto(value: object) -> Any:
    """Read `auto`, or a number from 1.

    Raises:
        ValueError: If it is neither.
    """
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"expected auto or a number of at least 1, saw {shorten(value)}")
    return value


NumberOrAuto = Annotated[int | Literal["auto"], BeforeValidator(parse_number_or_auto)]


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
    parallel_runs: NumberOrAuto = Field(
        default="auto",
        description="how many groups of `workers` train at once, each one run after another; auto: as many as the cluster, "
        "or what its autoscaler may make of it, holds with one CPU left for other tasks, and no more than there are runs; one "
        "on a private Ray without GPUs, whose runs would share memory and cores; "
        "`kind: local` has one",
    )
    placement_strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = Field(
        default="PACK",
        description="how Ray places a group's workers: on few nodes or spread out; STRICT refuses any other placement",
    )
    label_selector: dict[str, str] = Field(
        default={},
        description="labels of the nodes that train, such as `{market: spot}`; values may be `!x`, `in(x, y)`, `!in(x, y)`",
    )
    prepare_labels: dict[str, str] = Field(
        default={}, description="labels of the nodes that prepare text, likewise, such as `{cpt-ray-group: prepare}`"
    )
    evaluate_labels: dict[str, str] = Field(
        default={}, description="labels of the nodes that score models beside the GPU that they need, likewise"
    )
    use_head: bool = Field(
        default=True,
        description="whether the cluster's head node prepares, trains and scores too; false leaves it to Ray and the driver",
    )
    worker_resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="custom resources of Ray per training worker, such as `{a100: 1}`, beside CPUs and GPUs",
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
        description="with a root in a bucket: most bytes of text, shards, weights and checkpoints that a node keeps in its "
        "mirror; default: as many as leave a twentieth of its disk free",
    )
    cpus_per_worker: float = Field(default=1, gt=0, description="CPUs per training worker")
    gpus_per_worker: float = Field(default=0, ge=0, description="GPUs per training worker")
    gpu_memory: Bytes | None = Field(
        default=None,
        ge=1,
        description="memory of the GPU that a worker gets, in bytes, for `plan` on a machine without it; default: that of the "
        "GPU here",
    )
    prepare_workers: NumberOrAuto = Field(
        default=2,
        description="number of units prepared in parallel; auto: one per CPU, on a cluster also of nodes that come later",
    )
    evaluate_workers: int = Field(default=2, ge=1, description="number of models scored in parallel")
    evaluate_gpus: float | None = Field(
        default=None,
        ge=0,
        description="GPUs per model that is scored with `kind: ray`; models share a GPU below 1; default: `gpus_per_worker`",
    )
    max_failures: int = Field(
        default=3, ge=0, description="worker failures that a group of training workers survives before it stops"
    )
    collective_timeout: Seconds = Field(default=600, ge=10, description="timeout of a collective operation, in seconds")
    object_store: Bytes = Field(default=200_000_000, ge=80_000_000, description="object store size of a private Ray, in bytes")
    recycle_memory: bool = Field(
        default=True,
        description="let CPU training processes keep freed memory (GLIBC_TUNABLES): faster steps, but memory is not returned "
        "to the system",
    )

    @field_validator("label_selector", "prepare_labels", "evaluate_labels")
    @classmethod
    def _labels_are_readable(cls, labels: dict[str, str]) -> dict[str, str]:
        for label, value in labels.items():
            if not _LABEL.fullmatch(value):
                raise ValueError(f"{label}: {shorten(value)} is no value of a label; write x, !x, in(x, y) or !in(x, y)")
        return labels

    @field_validator("worker_resources")
    @classmethod
    def _resources_are_custom(cls, resources: dict[str, float]) -> dict[str, float]:
        for name, key in (("CPU", "cpus_per_worker"), ("GPU", "gpus_per_worker")):
            if name in resources:
                raise ValueError(f"{name} is set by runtime.{key}; remove it here")
        return resources

    @model_validator(mode="after")
    def _scoring_fits_device(self) -> "RuntimeConfig":
        if self.evaluate_gpus is not None and (self.evaluate_gpus > 0) != (self.gpus_per_worker > 0) and self.kind == "ray":
            works = "0" if self.gpus_per_worker == 0 else "a share above 0, such as 0.5"
            raise ValueError(
                f"evaluate_gpus is {self.evaluate_gpus:g}, but gpus_per_worker is {self.gpus_per_worker:g}: models are scored "
                f"on the device that trains them; set it to {works}"
            )
        return self

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
    def units_at_once(self) -> int:
        """Units prepared in parallel; for `auto` under Ray no limit of ours, so that Ray follows the cluster."""
        if self.prepare_workers != "auto":
            return self.prepare_workers
        return _NO_LIMIT if self.kind == "ray" else os.cpu_count() or 1

    @property
    def worker_demand(self) -> dict[str, float]:
        """What a training worker occupies, by the names that Ray gives resources."""
        gpus = {"GPU": self.gpus_per_worker} if self.gpus_per_worker else {}
        return {"CPU": self.cpus_per_worker, **gpus, **self.worker_resources}

    @property
    def scoring_gpus(self) -> float:
        """GPUs of a task that scores a model."""
        return self.gpus_per_worker if self.evaluate_gpus is None else self.evaluate_gpus

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
    """MLflow, if it is installed; TensorBoard and Weights & Biases on request."""

    enabled: bool = Field(
        default=True, description="mirror the study into MLflow; without the package mlflow nothing is, and one line says so"
    )
    uri: str | None = Field(default=None, description="MLflow tracking URI; default: a sqlite database in `study.root`")
    experiment: str = Field(default="cpt-ray", description="MLflow experiment name; project name in Weights & Biases")
    tensorboard: bool = Field(
        default=False, description="write curves as TensorBoard event files to `study.root`/tensorboard, while runs train"
    )
    wandb: bool = Field(
        default=False,
        description="log curves to Weights & Biases with the package wandb; offline, to files, where its key is not set",
    )
