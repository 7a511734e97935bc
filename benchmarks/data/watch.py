"""CPU seconds, wall time and memory of commands and all their descendants, including short-lived ones.

Ray's workers are grandchildren that no process waits for, so the kernel's child times do not include them. This process becomes
the subreaper for orphans and reads the clocks of all its descendants until none is left.

Compared commands alternate in short slices: while one runs, the others are stopped by SIGSTOP with all their processes. The
speed of a shared machine changes by a factor of two within a minute, CPU seconds included (two machines on one physical core);
in slices, this affects all commands equally.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

import psutil

from benchmarks.measure.processes import send, stop_all

_EVERY_S = 0.2
_PR_SET_CHILD_SUBREAPER = 36
_ONE_THREAD = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Usage:
    """What a command used. `peak_bytes` is the unshared resident memory of its largest process."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    load_before: float

    def raw(self) -> dict[str, Any]:
        """As plain values, for the `raw` of a claim."""
        return {key: round(value, 3) for key, value in asdict(self).items()}


def watch(command: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout_s: float = 3000) -> Usage:
    """Run a command to its end, with one thread per process for numerics and tokenizers.

    Raises:
        RuntimeError: If it fails or takes too long; with the end of its output.
    """
    return watch_together({"": command}, environment=environment, timeout_s=timeout_s)[""]


def watch_together(
    commands: Mapping[str, Sequence[str]],
    *,
    slice_s: float = 2.0,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 3000,
) -> dict[str, Usage]:
    """Run commands to completion, one at a time in slices; a command's wall time is the sum of its slices.

    Args:
        commands: Commands by name.
        slice_s: Seconds per turn. Ray fails to start if it is stopped for much longer than it runs.
        environment: Variables on top of this process's environment.
        timeout_s: Limit for all commands together.

    Raises:
        RuntimeError: If one fails or they take too long; with the end of its output.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    variables = {**os.environ, "TOKENIZERS_PARALLELISM": "false", **dict.fromkeys(_ONE_THREAD, "1"), **(environment or {})}
    load, end = os.getloadavg()[0], time.perf_counter() + timeout_s
    watched: dict[str, _Watched] = {}
    try:
        for name, command in commands.items():
            watched[name] = _Watched(command, variables)
            stop_all(watched[name].read)
        left = dict(watched)
        while left:
            for name, one in list(left.items()):
                others = [other for other in watched.values() if other is not one]
                one.run_for(slice_s if len(left) > 1 else timeout_s, end, others=others)
                if one.ended():
                    del left[name]
                    one.require_success()
                if time.perf_counter() > end:
                    raise RuntimeError(f"{' '.join(one.command)}: over {timeout_s:.0f} s")
    finally:
        send(psutil.Process().children(recursive=True), signal.SIGKILL)
        for one in watched.values():
            one.process.wait()
        _reap([])
    return {name: Usage(one.wall_s, sum(one.cpu_s.values()), one.peak_bytes, load) for name, one in watched.items()}


class _Watched:
    """A command with all its descendants, and what they have used so far."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.command = list(command)
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self.cpu_s: dict[psutil.Process, float] = {}  # of every process it ever had
        self.wall_s, self.peak_bytes = 0.0, 0
        self.process = subprocess.Popen(
            self.command, stdout=self.said, stderr=subprocess.STDOUT, start_new_session=True, env=dict(environment)
        )
        self.cpu_s[psutil.Process(self.process.pid)] = 0.0

    def run_for(self, seconds: float, end: float, *, others: Sequence[_Watched]) -> None:
        """Let it run for `seconds`, or until it and all its descendants have ended; Ray's daemons exit a little later."""
        started = time.perf_counter()
        send(self.read(), signal.SIGCONT)
        while (now := time.perf_counter()) - started < seconds and now < end and not self.ended():
            time.sleep(min(_EVERY_S, seconds))
            if self.process.poll() is None:
                self.wall_s += time.perf_counter() - now
            self._read_with_orphans(others)
            _reap([one.process.pid for one in (self, *others)])
        # With orphans: one that was missed here would run on in another command's turn, and be counted as its own.
        stop_all(lambda: self._read_with_orphans(others))

    def _read_with_orphans(self, others: Sequence[_Watched]) -> list[psutil.Process]:
        # Orphans are reparented to this process; only this command is running, so unknown ones are its own.
        known = {process for other in others for process in other.cpu_s}
        return self.read({child for child in psutil.Process().children() if child not in known})

    def read(self, orphans: set[psutil.Process] | None = None) -> list[psutil.Process]:
        """Record CPU time and memory of its processes; return those that are alive."""
        alive = []
        for root in {*self.cpu_s, *(orphans or ())}:
            try:
                family = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for one in family:
                try:
                    with one.oneshot():
                        times, memory = one.cpu_times(), one.memory_info()
                        self.cpu_s[one] = times.user + times.system
                        self.peak_bytes = max(self.peak_bytes, memory.rss - memory.shared)
                        if one.status() != psutil.STATUS_ZOMBIE:
                            alive.append(one)
                except psutil.NoSuchProcess:
                    continue
        return alive

    def ended(self) -> bool:
        """Whether it failed, or none of its processes is left.

        What a failed command leaves may never end: an agent of a Ray whose node did not start takes this process, which adopted
        it, for the raylet that it would follow.
        """
        code = self.process.poll()
        return code is not None and (code != 0 or not self.read())

    def require_success(self) -> None:
        """Raise RuntimeError with its output if it failed."""
        if self.process.returncode:
            self.said.seek(0)
            said = self.said.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(self.command)}: exit code {self.process.returncode}\n{said[-4000:]}")


def _reap(kept: Sequence[int]) -> None:
    """Reap children that have ended, except those that `Popen` waits for."""
    for child in psutil.Process().children():
        try:
            if child.pid not in kept and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            continue
