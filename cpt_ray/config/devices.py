"""Rules about the device: CPU or GPU, and whether the card can do what the study asks. Pure functions over `DeviceFacts`.

In: the `runtime` section, precisions, facts. Out: the choice, or an error that names what is in the way and two ways out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import DeviceFacts

_OLDEST_DRIVERS = {11: 450, 12: 525, 13: 580}
"""CUDA's major version to the oldest driver that runs it (CUDA Toolkit release notes, minor version compatibility)."""
_BF16_SINCE = (8, 0)
"""Compute capability of the first NVIDIA cards with bf16 (Ampere)."""


def choose_device(runtime: RuntimeConfig, facts: DeviceFacts) -> Literal["cpu", "gpu"]:
    """The device to compute on. A GPU that is there and cannot be used is never passed over in silence.

    Args:
        runtime: The `runtime` section.
        facts: Of the machine that computes.

    Raises:
        ConfigError: If a GPU is asked for and there is none, or one is there that torch cannot use.
    """
    if runtime.wants_gpu is False:
        return "cpu"
    if facts.works:
        _require_kernels(facts, _on_cpu(runtime))
        return "gpu"
    if runtime.wants_gpu is None and (facts.hidden_by is not None or facts.card is None):
        return "cpu"
    asked = f"{runtime.gpu_key}, but"
    if facts.hidden_by is not None:
        raise ConfigError(
            f"{asked} CUDA_VISIBLE_DEVICES={facts.hidden_by!r} hides every GPU",
            fix=f"unset CUDA_VISIBLE_DEVICES, {_on_cpu(runtime)}",
        )
    if facts.card is None and not (facts.hip and facts.works is None):
        raise ConfigError(
            f"{asked} this machine has no GPU that its driver shows",
            fix=f"run where there is one (a container needs to be given it, as with `--gpus all`), {_on_cpu(runtime)}",
        )
    _require_build(facts, _on_cpu(runtime))
    return "gpu"


def require_precision(facts: DeviceFacts, precisions: Mapping[str, str]) -> None:
    """Refuse bf16 on a card without it, where torch would emulate it slowly or fail.

    Args:
        facts: Of the GPU that computes.
        precisions: Key of the study file to its value.

    Raises:
        ConfigError: Naming the key, the card and the precisions that it has.
    """
    if facts.capability is None or facts.hip or facts.capability >= _BF16_SINCE:
        return
    for key, precision in precisions.items():
        if precision == "bf16":
            scaled = f"{key}=fp16, whose loss DeepSpeed scales, or " if key.startswith("train") else ""
            raise ConfigError(f"{key} is bf16, which {_named(facts)} does not have", fix=f"set {scaled}{key}=fp32")


def require_gpus(runtime: RuntimeConfig, there: float, *, private: bool) -> str | None:
    """Whether a Ray cluster has the GPUs that its workers wait for.

    Args:
        runtime: The `runtime` section.
        there: GPUs that the cluster has now.
        private: Whether it is a private Ray on this machine, which gets no more.

    Returns:
        A warning for a cluster that may still get them, or None.

    Raises:
        ConfigError: If the workers of a private Ray would wait forever.
    """
    needed = runtime.gpus_per_worker * runtime.workers.min
    if needed <= there:
        return None
    text = f"{runtime.gpu_key} for {runtime.workers} worker(s), which is {needed:g} GPUs, but "
    if not private:
        return f"{text}the cluster has {there:g} now: the workers wait for nodes with more"
    raise ConfigError(
        f"{text}this machine has {there:g}",
        fix="lower runtime.workers, set runtime.address to a cluster that has them, or set runtime.gpus_per_worker=0",
    )


def unused_gpus(runtime: RuntimeConfig, there: str | None) -> str | None:
    """A warning of GPUs that no worker asks for: Ray's workers get `runtime.gpus_per_worker`, which is 0 by default.

    Args:
        runtime: The `runtime` section.
        there: Who has GPUs, as a sentence begins with it; None without any.

    Returns:
        The warning, or None if there are none, or `runtime.device` says that the CPU is meant.
    """
    if there is None or runtime.kind == "local" or runtime.gpus_per_worker > 0 or runtime.device == "cpu":
        return None
    return (
        f"{there}, but runtime.gpus_per_worker is 0: workers train on the CPU; set it to 1, or runtime.kind=local for one GPU "
        "without Ray; runtime.device=cpu says that the CPU is meant"
    )


def _require_build(facts: DeviceFacts, on_cpu: str) -> None:
    """Name what keeps torch from a card that is there."""
    card = _named(facts)
    if facts.cuda is None and facts.hip is None:
        raise ConfigError(
            f"this machine has {card}, but {facts.torch_build} cannot use it",
            fix="install torch's CUDA build: `make setup-gpu`, or pip install --force-reinstall "
            f"torch=={facts.torch.split('+')[0]} from where pip finds that build; {on_cpu}",
        )
    oldest = _OLDEST_DRIVERS.get(_major(facts.cuda))
    if facts.driver is not None and oldest is not None and _major(facts.driver) < oldest:
        raise ConfigError(
            f"the NVIDIA driver {facts.driver} of {card} is too old for {facts.torch_build}, which needs {oldest} or newer",
            fix=f"update the driver, install torch built for an older CUDA, {on_cpu}",
        )
    if facts.works is False:
        said = f": {facts.problem}" if facts.problem else ""
        raise ConfigError(
            f"{facts.torch_build} cannot use {card}, driver {facts.driver or 'unknown'}{said}",
            fix=f"see `nvidia-smi` and `python -c 'import torch; torch.zeros(1).cuda()'`, {on_cpu}",
        )


def _require_kernels(facts: DeviceFacts, on_cpu: str) -> None:
    if facts.capability is not None and facts.kernels and facts.capability < min(facts.kernels):
        oldest = ".".join(map(str, min(facts.kernels)))
        raise ConfigError(
            f"{facts.torch_build} has kernels from compute capability {oldest} on, and {_named(facts)} is older",
            fix=f"install torch built for an older CUDA, {on_cpu}",
        )


def _named(facts: DeviceFacts) -> str:
    capability = f" (compute capability {facts.capability[0]}.{facts.capability[1]})" if facts.capability else ""
    return f"{facts.card or 'the GPU'}{capability}"


def _on_cpu(runtime: RuntimeConfig) -> str:
    return f"or train on the CPU with {'runtime.gpus_per_worker=0' if runtime.kind == 'ray' else 'runtime.device=cpu'}"


def _major(version: str | None) -> int:
    head = (version or "").split(".")[0]
    return int(head) if head.isdigit() else 0
