"""Numbers on their way from the device to the host, and the outcome of a step.

Made by the engine, read by the loop one or a few steps later. Guarantee: making one waits for nothing; reading one waits for
the work that led to it, not for what was launched after it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class HostCopy:
    """A copy of a small tensor of the device on the host.

    Args:
        values: Numbers [N].
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self._arrived: torch.cuda.Event | None = None
        if values.is_cuda:
            self._values = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> list[float]:
        """Wait for the numbers."""
        if self._arrived is not None:
            self._arrived.synchronize()
        numbers: list[float] = self._values.tolist()
        return numbers


class LoweredScale(NamedTuple):
    """A change of the loss scale in fp16, because a gradient overflowed at it."""

    before: float
    now: float


class Outcome:
    """A step's loss and gradient norm.

    Args:
        loss: Scalar on the device.
        norm: Scalar on the same device; NaN if the step was dropped.
        lowered: The change of the loss scale for which the step is to be repeated; known at once.
    """

    def __init__(self, loss: Tensor, norm: Tensor, lowered: LoweredScale | None = None) -> None:
        self.lowered = lowered
        self._both = HostCopy(torch.stack([loss.double(), norm.double()]))

    def read(self) -> tuple[float, float]:
        """Wait for the step; returns loss and norm."""
        loss, norm = self._both.read()
        return loss, norm
