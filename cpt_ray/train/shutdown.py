"""What workers agree on between two steps: whether to stop, whether a node is being preempted, and whether an upload failed.

The driver asks for a stop, on SIGINT or SIGTERM, in its answers to heartbeats. Workers hear it one by one, and one small
all-reduce per step notifies all, so that they save at the same step. On GPUs its result is read a step later, so that no rank
waits for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist

from cpt_ray.train.engine.outcome import HostCopy

Request = Literal["stop", "preemption"]

_ASK_S = 5.0


@dataclass(frozen=True)
class Preemption:
    """Notice that nodes of the group will be taken away."""

    deadline: float | None
    """Seconds since the epoch; None if the cloud gives none."""
    nodes: tuple[str, ...]


AskPreemption = Callable[[], Preemption | None]
"""Collective: every rank asks at the same step, and all get the same answer."""


class Requests:
    """Called by every rank after every step.

    Args:
        stop_wanted: Whether this rank has heard that the driver wants a stop.
        ask_preemption: Reports whether a node will be preempted; None if nothing can report it.
        upload_failed: Whether this rank's upload has failed.
        on_failed_upload: Called on all ranks when one has; must raise.
        device: Device of the collectives.
        lag: Calls after which the flags of one are read.
    """

    def __init__(
        self,
        stop_wanted: Callable[[], bool],
        *,
        ask_preemption: AskPreemption | None,
        upload_failed: Callable[[], bool],
        on_failed_upload: Callable[[], None],
        device: torch.device,
        lag: int = 0,
    ) -> None:
        self._stop_wanted, self._ask_preemption = stop_wanted, ask_preemption
        self._upload_failed, self._on_failed_upload = upload_failed, on_failed_upload
        self._device, self._rank = device, dist.get_rank()
        self._lag, self._sent = lag, deque[HostCopy]()
        self._asked = 0.0
        self.preemption: Preemption | None = None
        """The newest notice; each one is answered by one save."""

    def __call__(self) -> Request | None:
        """The current request to all ranks; collective."""
        stop, failed, ask = self._of_all_ranks([self._stop_wanted(), self._upload_failed(), self._ask_now()])
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

    def _of_all_ranks(self, mine: list[bool]) -> list[bool]:
        """What any rank flagged, at this call or `lag` calls before."""
        if dist.get_world_size() == 1:
            return mine
        # One all-reduce of three flags per step, so that the ranks can never disagree on the step at which they stop.
        flags = torch.tensor(mine, dtype=torch.int32, pin_memory=self._device.type == "cuda")
        flags = flags.to(self._device, non_blocking=True)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        self._sent.append(HostCopy(flags))
        return [bool(flag) for flag in self._sent.popleft().read()] if len(self._sent) > self._lag else [False] * len(mine)

    def _ask_now(self) -> bool:
        now = time.monotonic()
        if self._rank != 0 or self._ask_preemption is None or now - self._asked < _ASK_S:
            return False
        self._asked = now
        return True
