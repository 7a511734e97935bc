"""What workers agree on between two steps: whether to stop, whether a node is about to go, and whether an upload has failed.

A stop is a file beside the study's lease, which the driver writes at SIGINT or SIGTERM: it reaches workers on any node and in
the driver's own process alike. Rank 0 looks for it and all ranks learn it by one small all-reduce per step, so that they save
at the same step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist

Request = Literal["stop", "preemption"]

_LOOK_S = 0.5
_ASK_S = 5.0


@dataclass(frozen=True)
class Preemption:
    """A node of the group will be taken away."""

    deadline: float | None
    """Seconds since the epoch; None if the cloud did not say."""
    nodes: tuple[str, ...]


AskPreemption = Callable[[], Preemption | None]
"""Collective: every rank asks at the same step, and all get the same answer."""


class Requests:
    """Asked by every rank after every step.

    Args:
        stop_file: Its existence asks for a stop.
        ask_preemption: How to learn of a node that goes; None where there is nobody to ask.
        upload_failed: Whether this rank's upload has failed.
        on_failed_upload: Called on all ranks when one has; must raise.
        device: Where collectives compute.
    """

    def __init__(
        self,
        stop_file: Path,
        *,
        ask_preemption: AskPreemption | None,
        upload_failed: Callable[[], bool],
        on_failed_upload: Callable[[], None],
        device: torch.device,
    ) -> None:
        self._stop_file, self._ask_preemption = stop_file, ask_preemption
        self._upload_failed, self._on_failed_upload = upload_failed, on_failed_upload
        self._device, self._rank = device, dist.get_rank()
        self._looked = self._asked = 0.0
        self.preemption: Preemption | None = None
        """The newest notice; one is answered by one save."""

    def __call__(self) -> Request | None:
        """What is asked of all ranks now; collective."""
        flags = torch.tensor(
            [self._stop_wanted(), self._upload_failed(), self._ask_now()], dtype=torch.int32, device=self._device
        )
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        stop, failed, ask = flags.tolist()
        if failed:
            self._on_failed_upload()
        if stop:
            return "stop"
        if ask and self._ask_preemption is not None:
            notice = self._ask_preemption()
            if notice is not None and notice != self.preemption:
                self.preemption = notice
                return "preemption"
        return None

    def _stop_wanted(self) -> bool:
        now = time.monotonic()
        if self._rank != 0 or now - self._looked < _LOOK_S:
            return False
        self._looked = now
        return self._stop_file.exists()

    def _ask_now(self) -> bool:
        now = time.monotonic()
        if self._rank != 0 or self._ask_preemption is None or now - self._asked < _ASK_S:
            return False
        self._asked = now
        return True
