"""The memory timeline: host and GPU memory of each phase of a run, against tokens seen.

`Watch` reports every phase; measured are those of the start-up, those of one whole step in every interval, and every
checkpoint, held-out loss and export. Between measured steps, one phase `steps` holds the peaks of all of them. Out:
`MemoryPoint` lines. Guarantee: a measured phase costs two reads of /proc and a reset of the peak, and a measured step one small
gather; unmeasured phases cost neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

from cpt_ray.records import MemoryPoint

BETWEEN = "steps"
"""The phase that covers all steps that are not measured individually."""
ALWAYS = frozenset({"checkpoint", "held_out", "export"})
"""Phases that are measured whenever they occur."""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Sample:
    """Memory of one phase on one worker, bytes."""

    phase: str
    step: int
    host: int
    host_peak: int | None
    device: int | None
    device_peak: int | None

    def joined(self, later: Sample) -> Sample:
        """Merge with the same phase entered again within a step, as with micro-batches."""
        return replace(
            later,
            host_peak=_highest(self.host_peak, later.host_peak),
            device_peak=_highest(self.device_peak, later.device_peak),
        )


class MemoryTimeline:
    """Measures phases on this worker. Every rank makes the same calls.

    Args:
        device: Where this worker computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._measuring = True
        self._open: tuple[str, int] | None = None
        self._samples: list[Sample] = []
        self._process = psutil.Process()
        self._has_peak = _reset_host_peak()

    def enter(self, phase: str, step: int) -> None:
        """Begin a phase, and end the one before it."""
        if not self._measuring and phase not in ALWAYS:
            phase = BETWEEN
        if self._open is not None and self._open[0] == BETWEEN == phase:
            return
        self._close()
        self._open = (phase, step)

    def measure_next(self, on: bool) -> None:
        """Switch individual measurement of the following phases on or off."""
        self._measuring = on

    def gather(self, *, attempt: int, tokens_seen: int) -> list[MemoryPoint]:
        """Measurements since the last call, on rank 0; collective."""
        self._close()
        self._open = None
        mine, self._samples = self._samples, []
        everyone: list[list[Sample] | None] = [None] * dist.get_world_size() if dist.get_rank() == 0 else []
        dist.gather_object(mine, everyone if dist.get_rank() == 0 else None)
        found = [part for part in everyone if part is not None]
        return [
            MemoryPoint(
                attempt=attempt,
                step=sample.step,
                tokens_seen=tokens_seen,
                phase=sample.phase,
                host_bytes=sample.host,
                host_peak_bytes=sample.host_peak,
                host_peak_bytes_most=_most([part[index].host_peak for part in found]),
                device_bytes=sample.device,
                device_peak_bytes=sample.device_peak,
                device_peak_bytes_most=_most([part[index].device_peak for part in found]),
            )
            for index, sample in enumerate(mine if found else [])
        ]

    def _close(self) -> None:
        if self._open is None:
            return
        phase, step = self._open
        cuda = self._device.type == "cuda"
        sample = Sample(
            phase,
            step,
            host=self._process.memory_info().rss,
            host_peak=read_host_peak() if self._has_peak else None,
            device=torch.cuda.memory_allocated(self._device) if cuda else None,
            device_peak=torch.cuda.max_memory_allocated(self._device) if cuda else None,
        )
        if cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        if self._has_peak:
            _reset_host_peak()
        place = next((i for i, old in enumerate(self._samples) if (old.phase, old.step) == (phase, step)), None)
        if place is None:
            self._samples.append(sample)
        else:
            self._samples[place] = self._samples[place].joined(sample)


def _reset_host_peak() -> bool:
    """Make the kernel reset this process's peak (proc(5), clear_refs); False if it does not."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def read_host_peak() -> int | None:
    """The highest resident memory of this process since its peak was reset, in bytes; None where the kernel does not say."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return None


def _highest(one: int | None, two: int | None) -> int | None:
    return two if one is None else one if two is None else max(one, two)


def _most(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None
