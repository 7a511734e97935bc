"""Worker heartbeats, and what the driver reads from them: which worker lags when none of them moves.

Workers write `heartbeats/rank-NNNNN.json` under the run's folder, and the driver's watcher reads them. All workers go through
the same phases in the same order, so the one that has entered the fewest is the one that the others wait for.
Guarantee: entering a phase costs the training thread no file access; a separate thread writes, at most once a second.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import is_mirrored
from cpt_ray.errors import CptRayError
from cpt_ray.records import Heartbeat

FOLDER = "heartbeats"
_EVERY_S = 1.0
_EVERY_STORED_S = 5.0
"""With a root in a bucket, where each costs a request."""
_SLOWEST_STEPS = 5
_STARTS = 5
"""Workers that have not started may be silent this many times longer: the cluster may have to find nodes first."""


class Heart(threading.Thread):
    """Writes this worker's `Heartbeat` when it has moved.

    Args:
        run_folder: The run's folder.
        rank: This worker.
        world_size: Number of workers.
    """

    def __init__(self, run_folder: Path, *, rank: int, world_size: int) -> None:
        super().__init__(daemon=True, name="heartbeat")
        self._path = run_folder / FOLDER / f"rank-{rank:05d}.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._who = {"rank": rank, "world_size": world_size, "host": socket.gethostname(), "pid": os.getpid()}
        self._now: tuple[str, int, int, float] = ("start", 0, 0, time.time())
        self._written = -1
        self._stopping = threading.Event()
        self._write()
        self.start()

    def beat(self, phase: str, step: int) -> None:
        """Remember that this worker has entered a phase of a step."""
        self._now = (phase, step, self._now[2] + 1, time.time())

    def run(self) -> None:
        """Write once a second until closed; runs in the thread."""
        while not self._stopping.wait(_EVERY_STORED_S if is_mirrored(self._path) else _EVERY_S):
            with contextlib.suppress(CptRayError):  # one that cannot be sent is missing, which is what the driver reports
                self._write()

    def close(self) -> None:
        """Write once more and stop."""
        self._stopping.set()
        self.join()
        with contextlib.suppress(CptRayError):
            self._write()

    def _write(self) -> None:
        phase, step, moves, entered = self._now
        if moves != self._written:
            beat = Heartbeat.model_validate({**self._who, "phase": phase, "step": step, "moves": moves, "time": entered})
            write_atomic(self._path, beat.to_json())
            self._written = moves


def read_heartbeats(run_folder: Path) -> tuple[Heartbeat, ...]:
    """The last heartbeats, by rank; none before the workers have started, nor one that is just being replaced."""
    beats = []
    for path in sorted((run_folder / FOLDER).glob("rank-*.json")):
        # Of an object that is replaced between two requests of a fetch, the end may be missing; the next look has it.
        with contextlib.suppress(FileNotFoundError, ValueError):
            beats.append(Heartbeat.load(path))
    return tuple(beats)


def started_since(beats: Sequence[Heartbeat], before: Sequence[Heartbeat]) -> tuple[Heartbeat, ...]:
    """The workers that have moved since `before` was read: the last heartbeats of an earlier start are still there."""
    left = {(beat.rank, beat.pid, beat.moves) for beat in before}
    return tuple(beat for beat in beats if (beat.rank, beat.pid, beat.moves) not in left)


def laggards(beats: Sequence[Heartbeat]) -> tuple[Heartbeat, ...]:
    """The workers that have entered fewer phases than others; empty if all have entered the same number."""
    fewest = min((beat.moves for beat in beats), default=0)
    behind = tuple(beat for beat in beats if beat.moves == fewest)
    return behind if len(behind) < len(beats) or len(beats) == 1 else ()


def describe(beats: Sequence[Heartbeat]) -> str:
    """Name workers: rank, host, pid, phase and step."""
    return "; ".join(f"rank {b.rank} on {b.host}, pid {b.pid}, is in phase {b.phase} of step {b.step}" for b in beats)


@dataclass(frozen=True)
class Silence:
    """No worker has moved for `seconds`; `behind` are those that the others wait for, or all; none before the start."""

    seconds: float
    behind: tuple[Heartbeat, ...]

    def __str__(self) -> str:
        if not self.behind:
            return f"no worker has started for {self.seconds:.0f} s; `ray status` shows what the cluster is waiting for"
        return f"no worker has moved for {self.seconds:.0f} s: {describe(self.behind)}"


class SilenceWatch:
    """Uses the driver's clock to tell whether any worker moves; clocks of other nodes do not matter.

    Args:
        least_s: Shortest silence that is reported.
    """

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._seen: tuple[tuple[int, int], ...] = ()
        self._since = time.monotonic()
        self._reported = False

    def look(self, beats: Sequence[Heartbeat], *, slowest_step_s: float) -> Silence | None:
        """Process the heartbeats; returns a silence, once, when it has lasted too long.

        Args:
            beats: Heartbeats of the workers that have started.
            slowest_step_s: A silence shorter than five of these is not reported.
        """
        now = time.monotonic()
        seen = tuple((beat.pid, beat.moves) for beat in beats)
        if seen != self._seen:
            self._seen, self._since, self._reported = seen, now, False
        silence = now - self._since
        limit_s = max(self._least_s, _SLOWEST_STEPS * slowest_step_s) if beats else _STARTS * self._least_s
        if self._reported or silence < limit_s:
            return None
        self._reported = True
        return Silence(silence, laggards(beats) or tuple(beats))
