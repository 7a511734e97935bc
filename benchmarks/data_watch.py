"""CPU seconds, wall time and memory of a command and of everything that it starts, however its processes come and go.

Ray's workers are grandchildren that nobody waits for, so the kernel's count of children's time lacks them. This process makes
itself the one that orphans fall to, and reads the clocks of all its descendants until none is left.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

_EVERY_S = 0.2
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Usage:
    """What a command took. `peak_bytes` is the resident memory, beyond what is shared, of its largest process."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    load_before: float

    def raw(self) -> dict[str, Any]:
        """As plain values, for the `raw` of a claim."""
        return {key: round(value, 3) for key, value in asdict(self).items()}


def watch(command: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout_s: float = 530) -> Usage:
    """Run a command to its end, with one thread per process for numerics and tokenizers.

    Raises:
        RuntimeError: If it fails or takes too long; with the end of what it said.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    quiet = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    seen: dict[tuple[int, float], float] = {}
    peak = 0
    load = os.getloadavg()[0]
    started = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **quiet, **(environment or {})},
    )
    try:
        while process.poll() is None:
            peak = max(peak, _read(seen))
            if time.perf_counter() - started > timeout_s:
                raise RuntimeError(f"{' '.join(command)}: over {timeout_s:.0f} s")
            time.sleep(_EVERY_S)
        wall = time.perf_counter() - started
        while psutil.Process().children(recursive=True):  # Ray's daemons leave a little later
            _read(seen)
            _reap()
            if time.perf_counter() - started > timeout_s:
                break
            time.sleep(_EVERY_S)
    finally:
        for child in psutil.Process().children(recursive=True):
            child.send_signal(signal.SIGKILL)
        _reap()
    said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}\n{said[-4000:]}")
    return Usage(wall, sum(seen.values()), peak, load)


def _read(seen: dict[tuple[int, float], float]) -> int:
    """Note the CPU time of every descendant; return the largest private memory."""
    largest = 0
    for child in psutil.Process().children(recursive=True):
        try:
            with child.oneshot():
                times, memory = child.cpu_times(), child.memory_info()
                seen[child.pid, child.create_time()] = times.user + times.system
                largest = max(largest, memory.rss - memory.shared)
        except psutil.NoSuchProcess:
            continue
    return largest


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
