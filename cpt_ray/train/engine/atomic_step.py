"""An atomic optimizer step: a gradient that is not finite changes nothing.

Between the engine and DeepSpeed. In: accumulated gradients. Out: their global norm, and either a step taken
or gradients dropped. Guarantee: a dropped step leaves weights, master weights, moments and step counts bitwise unchanged.

DeepSpeed 0.19 has a code path that drops a step, but what triggers it differs. ZeRO-3, stage 0 in bf16, and ZeRO-1 in bf16
with gradients in fp32 take it whenever the norm is not finite. ZeRO-1 and 2 otherwise take it only with
`bf16.check_grad_overflow`, whose scan makes two passes over the gradients in addition to the norm, which is computed anyway.
Stage 0 in fp32 has no such path. Here the norm decides at every stage. Only methods of one optimizer object are replaced,
never those of a class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from cpt_ray.errors import ConfigError, TrainingError


class StepGuard:
    """Takes a DeepSpeed engine's optimizer step, or drops it. Collective; all ranks decide the same, since the norm is global.

    Args:
        engine: The engine that `deepspeed.initialize` returned.

    Raises:
        ConfigError: If the DeepSpeed JSON disables the norm that the guard checks.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._dropping = False
        optimizer = engine.optimizer
        self._has_own_path = hasattr(optimizer, "overflow")
        if hasattr(optimizer, "scaled_global_norm"):  # ZeRO-1 and 2
            if not optimizer.compute_grad_norm:
                raise ConfigError(
                    "zero_optimization.compute_grad_norm is false, so nothing would stop a non-finite gradient",
                    fix="delete compute_grad_norm from the DeepSpeed JSON",
                )
            optimizer.check_grad_overflow = True
            optimizer.check_overflow = _see_nothing
            optimizer.scaled_global_norm = self._or_infinite(optimizer.scaled_global_norm, list_of=False)
        elif hasattr(optimizer, "_get_norm_groups"):  # ZeRO-3
            optimizer._get_norm_groups = self._or_infinite(optimizer._get_norm_groups, list_of=True)
        elif hasattr(optimizer, "clear_hp_grads"):  # ZeRO-1 in bf16 with gradients summed in fp32
            self._take_step, optimizer.step = optimizer.step, self._step_or_drop
        elif hasattr(optimizer, "overflow_checker"):  # stage 0 in bf16
            checker = optimizer.overflow_checker
            found = checker.check
            checker.check = lambda: found() or self._dropping  # always called: it is collective

    def step(self, *, take: bool) -> float:
        """Take the step unless the gradient is not finite.

        Args:
            take: False always drops the gradients.

        Returns:
            The global gradient norm before clipping; not finite if and only if the step was dropped.

        Raises:
            TrainingError: If DeepSpeed took a step whose norm is not finite, which would be a bug in this guard.
        """
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

    def _step_or_drop(self) -> None:
        """Drop any step; without this, ZeRO-1 in bf16 drops only steps whose norm is not finite."""
        optimizer = self._engine.optimizer
        if self._dropping:
            optimizer.overflow = True
            optimizer.clear_hp_grads()
            optimizer.clear_lp_grads()
        else:
            self._take_step()

    def _or_infinite(self, norms: Callable[[], Any], *, list_of: bool) -> Callable[[], Any]:
        def decide() -> Any:
            found = norms()  # always called: it is collective
            if not self._dropping:
                return found
            return [torch.full_like(norm, math.inf) for norm in found] if list_of else torch.full_like(found, math.inf)

        return decide


def _see_nothing(partition_gradients: bool = True) -> None:
    """Replace DeepSpeed's scan for infinities: the norm is not finite exactly when a gradient is not."""
