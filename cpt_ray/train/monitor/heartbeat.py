"""Worker heartbeats, and what the driver reads from them: which worker lags when none of them moves.

Workers tell them to their driver, under Ray through the actor that has the queue of runs, and write
`heartbeats/rank-NNNNN.json` under the run's folder, from which `cpt-ray status` reads them in any shell. All workers go through
the same phases in the same order, so the one that has entered the fewest is the one that the others wait for.
Guarantee: entering a phase costs the training thread no file access and no call; a separate thread makes them, once a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import is_mirrored
from cpt_ray.errors import CptRayError, problem_of
from cpt_ray.records import Heartbeat

logger = logging.getLogger(__name__)
FOLDER = "heartbeats"
_EVERY_S = 1.0
_EVERY_STORED_S = 30.0
"""Between two files where each costs a request: with a root in a bucket."""
_SLOWEST_STEPS = 5
_STARTS = 5
"""Workers that have not started may be silent this many times longer: the cluster may have to find nodes first."""


TellDriver = Callable[[Heartbeat], bool]
"""Passes a heartbeat on to the driver, and returns whether it wants the workers to stop."""


class Heart(threading.Thread):
    """Tells this worker's `Heartbeat` once a second, and writes it when it has moved.

    Args:
        run_folder: The run's folder.
        rank: This worker.
        world_size: Number of workers.
        tell: Called with each; a driver that cannot be reached is not the end of the run.
    """

    def __init__(self, run_folder: Path, *, rank: int, world_size: int, tell: TellDriver | None = None) -> None:
        super().__init__(daemon=True, name="heartbeat")
        self._path = run_folder / FOLDER / f"rank-{rank:05d}.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._who = {"rank": rank, "world_size": world_size, "host": socket.gethostname(), "pid": os.getpid()}
        self._now: tuple[str, int, int, float] = ("start", 0, 0, time.time())
        self._written, self._write_at, self._tell = -1, 0.0, tell
        self.stop_wanted = False
        """What the driver last answered."""
        self._stopping = threading.Event()
        self._write(self._beat())
        self.start()

    def beat(self, phase: str, step: int) -> None:
        """Remember that this worker has entered a phase of a step."""
        self._now = (phase, step, self._now[2] + 1, time.time())

    def run(self) -> None:
        """Tell and write until closed; runs in the thread."""
        while not self._stopping.wait(_EVERY_S):
            self._pulse()

    def close(self) -> None:
        """Tell and write once more, and stop."""
        self._stopping.set()
        self.join()
        self._write_at = 0.0
        self._pulse()

    def _beat(self) -> Heartbeat:
        phase, step, moves, entered = self._now
        return Heartbeat.model_validate({**self._who, "phase": phase, "step": step, "moves": moves, "time": entered})

    def _pulse(self) -> None:
        beat = self._beat()
        if self._tell is not None:
            try:
                self.stop_wanted = self._tell(beat)
            except Exception as error:  # of the network or Ray: training goes on, and the driver says what it misses
                logger.info("the driver was not told a heartbeat: %s", problem_of(error))
        self._write(beat)

    def _write(self, beat: Heartbeat) -> None:
        if beat.moves != self._written and time.monotonic() >= self._write_at:
            with contextlib.suppress(CptRayError):
                write_atomic(self._path, beat.to_json())
                self._written = beat.moves
                self._write_at = time.monotonic() + (_EVERY_STORED_S if is_mirrored(self._path) else 0.0)


def read_heartbeats(run_folder: Path) -> tuple[Heartbeat, ...]:
    """The last heartbeats, by rank; none before the workers have started, nor one that is just being replaced."""
    beats = []
    for path in sorted((run_folder / FOLDER).glob("rank-*.json")):
        # Of an object that is replaced between two requests of a fetch, the end may be missing; the next look has it.
        with contextlib.suppress(FileNotFoundError, ValueError):
            beats.append(Heartbeat.load(path))
    return tuple(beats)


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
