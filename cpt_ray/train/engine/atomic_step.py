"""An atomic optimizer step: a loss or gradient that is not finite changes nothing.

Between the engine and DeepSpeed. In: accumulated gradients and the loss. Out: the global norm, and either a step taken
or gradients dropped. Guarantee: a dropped step leaves weights, master weights, moments and step counts bitwise unchanged.

Where it can, the device decides (`device_step.py`). Otherwise, with offload, fp16 and at stage 0, the host does: DeepSpeed 0.19
has a code path that drops a step, but what triggers it differs. ZeRO-3 and stage 0 in bf16 take it whenever the norm is not
finite. ZeRO-1 and 2 take it only with `bf16.check_grad_overflow`, whose scan makes two passes over the gradients in
addition to the norm, which is computed anyway. Stage 0 in fp32 has no such path. Here the norm decides at every stage. Only
methods of one optimizer object are replaced, never those of a class.

In fp16 the loss is multiplied by a scale that DeepSpeed finds by overflows: it doubles while all goes well, and is halved by a
gradient that no longer fits. Such a step is to be repeated at the lower scale (`AtomicStep.lowered`). A loss that is not
finite, or a gradient that is not at the lowest scale either, is none of the scale's: the step is dropped, the scale put back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from cpt_ray.errors import ConfigError, TrainingError
from cpt_ray.train.engine.device_step import DeviceStep, decides_on_device
from cpt_ray.train.engine.outcome import LoweredScale


class AtomicStep(Protocol):
    """An optimizer step that is taken or changes nothing. Collective; the loss and the norm are global, so all ranks agree."""

    @property
    def lowered(self) -> LoweredScale | None:
        """What the last step did to the loss scale instead of being taken: it is to be repeated; None in all other cases."""

    def step(self, loss: Tensor) -> Tensor:
        """Take the step if loss and gradient are finite; returns the norm, NaN if and only if nothing was changed."""


def atomic_step(engine: Any) -> AtomicStep:
    """The step of a DeepSpeed engine, decided on the device where that is possible.

    Args:
        engine: The engine that `deepspeed.initialize` returned.

    Raises:
        ConfigError: If the DeepSpeed JSON disables the norm that decides.
    """
    if not getattr(engine.optimizer, "compute_grad_norm", True):
        raise ConfigError(
            "zero_optimization.compute_grad_norm is false, so nothing would stop a non-finite gradient",
            fix="delete compute_grad_norm from the DeepSpeed JSON",
        )
    return DeviceStep(engine) if decides_on_device(engine.optimizer) else HostStep(engine)


class HostStep:
    """Takes a DeepSpeed engine's optimizer step, or drops it; waits for the device.

    Args:
        engine: The engine that `deepspeed.initialize` returned.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._dropping = False
        self._scale = _DynamicScale(engine.optimizer)
        self.lowered: LoweredScale | None = None
        optimizer = engine.optimizer
        self._has_own_path = hasattr(optimizer, "overflow")
        if hasattr(optimizer, "scaled_global_norm"):  # ZeRO-1 and 2
            optimizer.check_grad_overflow = True
            optimizer.check_overflow = _see_nothing
            optimizer.scaled_global_norm = self._or_infinite(optimizer.scaled_global_norm, list_of=False)
        elif hasattr(optimizer, "_get_norm_groups"):  # ZeRO-3
            optimizer._get_norm_groups = self._or_infinite(optimizer._get_norm_groups, list_of=True)
        elif hasattr(optimizer, "overflow_checker"):  # stage 0 in bf16
            checker = optimizer.overflow_checker
            found = checker.check
            checker.check = lambda: found() or self._dropping  # always called: it is collective

    def step(self, loss: Tensor) -> Tensor:
        """Take the step unless the loss or the gradient is not finite.

        Args:
            loss: The global batch's loss, a scalar.

        Returns:
            The global gradient norm before clipping, a scalar; NaN if and only if the step was dropped.

        Raises:
            TrainingError: If DeepSpeed took a step whose norm is not finite, which would be a bug in this guard.
        """
        self._scale.begin()
        norm = self._take_or_drop(take=math.isfinite(loss))
        self.lowered = self._scale.settle(taken=math.isfinite(norm), loss_is_finite=math.isfinite(loss))
        return torch.tensor(norm, dtype=torch.double, device=loss.device)

    def _take_or_drop(self, *, take: bool) -> float:
        if not self._has_own_path:
            return self._step_in_place(take=take)
        self._dropping = not take
        try:
            self._engine.step()
        finally:
            self._dropping = False
        if not self._engine.was_step_applied():
            self._forget_offloaded_sums()
            return math.nan
        norm = self._engine.get_global_grad_norm()
        if norm is None or not math.isfinite(float(norm)):
            raise TrainingError(
                f"DeepSpeed took a step whose gradient norm is {norm}", fix="resume from the last checkpoint, and report this"
            )
        return float(norm)

    def _step_in_place(self, *, take: bool) -> float:
        """Stage 0 in fp32: a plain optimizer, whose gradients are whole and already reduced."""
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not take or not math.isfinite(norm):
            self._engine.zero_grad()
            return math.nan
        self._engine.step()
        return norm

    def _forget_offloaded_sums(self) -> None:
        """Clear the fp32 sums that ZeRO-1 and 2 with offload keep after a dropped step; later steps would add to them."""
        optimizer = self._engine.optimizer
        if getattr(optimizer, "cpu_offload", False):
            for group in getattr(optimizer, "averaged_gradients", {}):
                optimizer.averaged_gradients[group] = None

    def _or_infinite(self, norms: Callable[[], Any], *, list_of: bool) -> Callable[[], Any]:
        def decide() -> Any:
            found = norms()  # always called: it is collective
            if not self._dropping:
                return found
            return [torch.full_like(norm, math.inf) for norm in found] if list_of else torch.full_like(found, math.inf)

        return decide


class _DynamicScale:
    """DeepSpeed's dynamic loss scale; does nothing where the optimizer has none.

    Args:
        optimizer: DeepSpeed's, whose scaler a loaded checkpoint replaces.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._before: dict[str, Any] = {}
        self._tried = 0.0
        self._repeating = False

    @property
    def _scaler(self) -> Any:
        """ZeRO's scaler, or that of stage 0, whose names differ."""
        found = getattr(self._optimizer, "loss_scaler", None) or getattr(self._optimizer, "loss_scale_config", None)
        return found if getattr(found, "dynamic", False) or getattr(found, "dynamic_loss_scale", False) else None

    def begin(self) -> None:
        """Before a step: keep the scale, as it is before the first attempt at it."""
        if (scaler := self._scaler) is not None:
            scaler.raise_error_at_min_scale = False  # what no scale helps is for the guards, which name the rows
            self._before = self._before if self._repeating else dict(vars(scaler))
            self._tried = float(scaler.cur_scale)

    def settle(self, *, taken: bool, loss_is_finite: bool) -> LoweredScale | None:
        """After a step: the lower scale if it is to be repeated with one."""
        scaler = self._scaler
        if scaler is None:
            return None
        lowest = float(scaler.min_scale if hasattr(scaler, "min_scale") else scaler.min_loss_scale)
        self._repeating = not taken and loss_is_finite and self._tried > lowest
        if self._repeating:
            # DeepSpeed bears some overflows at the same scale, on other rows; on the same rows it would overflow again.
            scaler.cur_scale = min(float(scaler.cur_scale), max(self._tried / scaler.scale_factor, lowest))
            return LoweredScale(self._tried, scaler.cur_scale)
        if not taken:
            vars(scaler).update(self._before)
        return None


def _see_nothing(partition_gradients: bool = True) -> None:
    """Replace DeepSpeed's scan for infinities: the norm is not finite exactly when a gradient is not."""
