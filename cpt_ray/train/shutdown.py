"""What workers agree on between two steps: whether to stop, whether a node is being preempted, and whether an upload failed.

A stop is a file next to the study's lease, written by the driver on SIGINT or SIGTERM; on a node that does not share that disk,
the answer to a heartbeat makes it in the node's mirror. Rank 0 polls for it, and one small all-reduce per step notifies all, so
that they save at the same step. On GPUs its result is read a step later, so that no rank waits for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist

from cpt_ray.edges.store import is_mirrored
from cpt_ray.records import Heartbeat
from cpt_ray.train.engine.outcome import HostCopy

Request = Literal["stop", "preemption"]

_LOOK_S = 0.5
_ASK_S = 5.0


@dataclass(frozen=True)
class Preemption:
    """Notice that nodes of the group will be taken away."""

    deadline: float | None
    """Seconds since the epoch; None if the cloud gives none."""
    nodes: tuple[str, ...]


AskPreemption = Callable[[], Preemption | None]
"""Collective: every rank asks at the same step, and all get the same answer."""


TellDriver = Callable[[Heartbeat], bool]
"""Passes a heartbeat on to the driver, and returns whether it has asked the workers to stop."""


def tell_driver(tell: TellDriver, stop_file: Path, beat: Heartbeat) -> None:
    """Pass a heartbeat on; where the driver's stop file is not seen, its answer makes one."""
    if tell(beat) and is_mirrored(stop_file):
        stop_file.parent.mkdir(parents=True, exist_ok=True)
        stop_file.touch()


class Requests:
    """Called by every rank after every step.

    Args:
        stop_file: Its existence requests a stop.
        ask_preemption: Reports whether a node will be preempted; None if nothing can report it.
        upload_failed: Whether this rank's upload has failed.
        on_failed_upload: Called on all ranks when one has; must raise.
        device: Device of the collectives.
        lag: Calls after which the flags of one are read.
    """

    def __init__(
        self,
        stop_file: Path,
        *,
        ask_preemption: AskPreemption | None,
        upload_failed: Callable[[], bool],
        on_failed_upload: Callable[[], None],
        device: torch.device,
        lag: int = 0,
    ) -> None:
        self._stop_file, self._ask_preemption = stop_file, ask_preemption
        self._upload_failed, self._on_failed_upload = upload_failed, on_failed_upload
        self._device, self._rank = device, dist.get_rank()
        self._lag, self._sent = lag, deque[HostCopy]()
        self._looked = self._asked = 0.0
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
