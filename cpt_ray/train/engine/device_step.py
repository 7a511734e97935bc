"""An atomic optimizer step that the host does not wait for: the device decides whether a step counts.

Between the engine and DeepSpeed. In: accumulated gradients and the loss, on the device. Out: their global norm, on the device.
torch's fused AdamW reads `found_inf` on the device; where it is 1, weights, moments and step counts keep their bits. DeepSpeed
0.19 would wait for the device at each decision: it copies constants to mask norms, asks whether a norm is valid before
it clips, and ends each of ZeRO-3's backward passes by waiting for its stream of reductions. These methods are replaced here,
on one optimizer object, by ones that compute the same bits. Guarantee: a step whose loss or gradient is not finite
changes nothing.

Waits that remain: DeepSpeed's ZeRO-3 synchronizes at each module if there is one worker, and ZeRO-2 with `overlap_comm` at each
bucket. Offload, fp16 and stage 0 decide on the host (`atomic_step.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_EPSILON = 1e-6
"""What DeepSpeed adds to a norm before it divides by it."""
_VALID = 0.0
"""What DeepSpeed is told instead of the norm: a number on the host that it need not wait for."""


def decides_on_device(optimizer: Any) -> bool:
    """Whether `DeviceStep` supports DeepSpeed's optimizer: ZeRO 1 to 3 in bf16 or fp32 over torch's AdamW on this device."""
    offloads = getattr(optimizer, "cpu_offload", False) or getattr(optimizer, "offload_optimizer", False)
    zero = any(hasattr(optimizer, name) for name in ("scaled_global_norm", "_get_norm_groups", "clear_hp_grads"))
    adam = getattr(optimizer, "optimizer", None)
    return bool(zero and not offloads and isinstance(adam, torch.optim.AdamW) and _dtype(optimizer) != torch.float16)


class DeviceStep:
    """Takes a DeepSpeed engine's optimizer step without waiting for it. Collective; the norm is global, so all ranks agree.

    Args:
        engine: The engine that `deepspeed.initialize` returned, with an optimizer that `decides_on_device`.
    """

    lowered = None
    """There is no loss scale in bf16 and fp32."""

    def __init__(self, engine: Any) -> None:
        self._engine, self._optimizer = engine, engine.optimizer
        self._counts, self._norm = torch.tensor(True), torch.tensor(math.nan)
        optimizer = self._optimizer
        if hasattr(optimizer, "scaled_global_norm"):  # ZeRO-1 and 2
            optimizer.check_grad_overflow = False
            optimizer.get_grad_norm_direct = self._norm_of_group
            optimizer.scaled_global_norm = self._hidden(optimizer.scaled_global_norm, instead=_VALID)
            optimizer.unscale_and_clip_grads = self._clip_partitions
        elif hasattr(optimizer, "_get_norm_groups"):  # ZeRO-3
            norms, clip = optimizer._get_norm_groups, optimizer.unscale_and_clip_grads
            optimizer.get_grad_norm_direct = self._norm_of_group
            optimizer._get_norm_groups = self._hidden(lambda: torch.stack(norms()).norm(), instead=[_VALID])
            optimizer.unscale_and_clip_grads = lambda group, _: clip(group, self._norm)
            if (stream := optimizer.reduce_and_partition_stream) is not None:
                # The next kernels wait for the reductions, where the host would.
                stream.synchronize = lambda: torch.cuda.current_stream().wait_stream(stream)
        else:  # ZeRO-1 in bf16 with gradients summed in fp32
            optimizer.step = self._step_bf16

    def step(self, loss: Tensor) -> Tensor:
        """Take the step, which changes nothing if the loss or the gradient is not finite.

        Args:
            loss: The global batch's loss, a scalar on the device.

        Returns:
            The global gradient norm before clipping, a scalar on the device; NaN if and only if nothing was changed.
        """
        self._counts = torch.isfinite(loss)
        self._engine.step()
        return torch.where(self._counts, self._norm, math.nan)

    def _decide(self, norm: Tensor) -> None:
        self._norm, self._counts = norm, self._counts & torch.isfinite(norm)
        self._optimizer.optimizer.found_inf = (~self._counts).float()

    def _hidden(self, global_norm: Callable[[], Tensor], *, instead: Any) -> Callable[[], Any]:
        def hide() -> Any:
            self._decide(global_norm())
            return instead

        return hide

    def _norm_of_group(self, gradients: Iterable[Tensor], params: Sequence[Any], norm_type: float = 2) -> Tensor:
        """DeepSpeed's `get_grad_norm_direct` without its mask, for data parallelism alone."""
        real = (gradient for gradient in gradients if not getattr(gradient, "_zero_padding", False))
        found = [gradient for gradient, _ in zip(real, params, strict=False)]  # the last may be padding
        stage3 = hasattr(self._optimizer, "_get_norm_groups")
        # Parts of fp32 sums are squared and summed in fp64: their order then does not depend on the number of workers.
        norms = list(torch._foreach_norm(found, norm_type, dtype=torch.double)) if found else []
        total = torch.stack(norms).pow(norm_type).sum() if norms else torch.zeros((), dtype=torch.double, device=self._device)
        if not stage3:
            total = total.float()
        group = self._optimizer._get_param_partition_group(params[0]) if stage3 else self._optimizer.dp_process_group
        dist.all_reduce(total, group=group)
        return total ** (1.0 / norm_type)

    @property
    def _device(self) -> torch.device:
        return torch.device(self._engine.device)

    def _clip_partitions(self, gradients: Iterable[Tensor], _: float) -> None:
        if self._optimizer.clip_grad > 0:
            excess = torch.clamp((self._norm + _EPSILON) / self._optimizer.clip_grad, min=1.0)
            for gradient in gradients:
                gradient.mul_(1.0 / excess)

    @torch.no_grad()
    def _step_bf16(self) -> None:
        """DeepSpeed's `BF16_Optimizer.step`, up to its decisions."""
        optimizer = self._optimizer
        optimizer.overflow = False
        gradients, _ = optimizer.get_grads_for_norm()
        self._decide(torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float)).pow(2).sum().pow(0.5))
        if optimizer.clip_grad > 0:
            share = torch.clamp(optimizer.clip_grad / (self._norm + _EPSILON), max=1.0)
            torch._foreach_mul_(optimizer.get_grads_for_norm(for_clipping=True), share)
        masters, sums = optimizer.fp32_groups_flat_partition, optimizer.fp32_groups_gradient_flat_partition
        for master, gradient in zip(masters, sums, strict=True):
            master.grad = gradient.to(master.dtype)
        optimizer.optimizer.step()
        if optimizer.grad_acc_dtype is not torch.float32:
            for master in masters:
                master.grad = None
        optimizer._lazy_init_hp_params_optimizer_state()
        optimizer.update_lp_params()
        optimizer.clear_hp_grads()


def _dtype(optimizer: Any) -> torch.dtype:
    return getattr(optimizer, "dtype", torch.bfloat16)
