"""Two processes on a machine whose speed drifts: they take turns of a few steps, so that drift affects both equally.

In: two `Side`s, each a command that appends a line to a file after each step. Out: seconds and CPU seconds of each step, and
the seconds to the first one and of the whole, without the other's turns. While one side runs, the other is stopped by SIGSTOP
with all its processes, including Ray's daemons. The first step of a turn is not measured: after SIGCONT, threads migrate back
to their cores and daemons catch up on deferred work. A step lasts from one finished step to the next, with a resolution of
`POLL_S`. Turns were chosen after whole processes run one after another gave ratios between 0.5 and 1.9 for identical code: the
speed of a shared machine changes by a factor of two within a minute.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.measure.processes import send, stop_all

REPOSITORY = Path(__file__).parents[2]
POLL_S = 0.01
TURN_STEPS = 3
"""Steps per turn; all but the first are measured."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A Python process that takes steps.

    Args:
        name: Name used in messages.
        arguments: Arguments of the interpreter.
        environment: The complete environment of the process.
        log: File for its output.
        steps_done: Returns the number of finished steps, judged by its output files.
        interpreter: The Python that runs it; by default this one.
    """

    name: str
    arguments: list[str]
    environment: dict[str, str]
    log: Path
    steps_done: Callable[[], int]
    interpreter: str = sys.executable


@dataclass
class Turns:
    """Wall and CPU seconds of one side's measured steps, and the step numbers, from 0.

    `first_step_s` is from the start of the process to the end of its first step, `first_step_cpu_s` its CPU until then,
    `whole_s` to its own end.
    """

    numbers: list[int] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    first_step_s: float = 0.0
    first_step_cpu_s: float = 0.0
    whole_s: float = 0.0

    def add(self, taken: list[tuple[float, float]]) -> None:
        """Count steps as part of the whole."""
        if not self.first_step_s:
            self.first_step_s, self.first_step_cpu_s = taken[0]
        self.whole_s += sum(wall_s for wall_s, _ in taken)


def run_alone(side: Side) -> None:
    """Run a side to completion.

    Raises:
        RuntimeError: With the end of its output, if it fails.
    """
    with side.log.open("w") as stream:
        done = subprocess.run(
            [side.interpreter, *side.arguments],
            cwd=REPOSITORY, env=side.environment, stdout=stream, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    _require_success(side, done.returncode)


def run_in_turns(sides: tuple[Side, Side], *, warmup: int, steps: int) -> tuple[Turns, Turns]:
    """Run both sides to completion: `warmup` steps each, then `steps` in turns.

    Raises:
        ValueError: If `steps` is not a multiple of `TURN_STEPS`, or nothing warms up.
        RuntimeError: If a side fails, with the end of its output; if it has steps before it starts.
    """
    if warmup < 1:
        raise ValueError(f"{warmup} steps of warm-up: the first step of a process is no measure of the others")
    if steps % TURN_STEPS:
        raise ValueError(f"{steps} steps cannot be taken in turns of {TURN_STEPS}")
    seen = (Turns(), Turns())
    with _started(sides[0]) as first:
        seen[0].add(_take_turn(sides[0], first, range(warmup)))
        with _started(sides[1]) as second:
            seen[1].add(_take_turn(sides[1], second, range(warmup)))
            for start in range(warmup, warmup + steps, TURN_STEPS):
                for side, process, turns in zip(sides, (first, second), seen, strict=True):
                    numbers = range(start, start + TURN_STEPS)
                    taken = _take_turn(side, process, numbers)
                    turns.add(taken)
                    for number, (wall_s, cpu_s) in list(zip(numbers, taken, strict=True))[1:]:
                        turns.numbers.append(number)
                        turns.step_s.append(wall_s)
                        turns.cpu_s.append(cpu_s)
            seen[1].whole_s += _finish(sides[1], second)
        seen[0].whole_s += _finish(sides[0], first)
    return seen


@contextmanager
def _started(side: Side) -> Iterator[subprocess.Popen[bytes]]:
    if side.steps_done():
        raise RuntimeError(f"{side.name} has {side.steps_done()} steps from an earlier run before it starts")
    with side.log.open("w") as stream:
        process = subprocess.Popen(
            [side.interpreter, *side.arguments], cwd=REPOSITORY, env=side.environment, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            send(_tree(process), signal.SIGKILL)
            process.wait()


def _take_turn(side: Side, process: subprocess.Popen[bytes], numbers: range) -> list[tuple[float, float]]:
    """Let a side run until it has finished these steps, then stop it; return wall and CPU seconds of each step."""
    clock_s, spent_s, found = time.perf_counter(), _cpu_seconds(process), []
    send(_tree(process), signal.SIGCONT)
    for number in numbers:
        while side.steps_done() <= number:
            if process.poll() is not None:
                _require_success(side, process.returncode)
                raise RuntimeError(f"{side.name} ended after {side.steps_done()} steps instead of {number + 1}")
            time.sleep(POLL_S)
        before_s, clock_s = clock_s, time.perf_counter()
        before_cpu_s, spent_s = spent_s, _cpu_seconds(process)
        found.append((clock_s - before_s, spent_s - before_cpu_s))
    stop_all(lambda: _tree(process))
    return found


def _finish(side: Side, process: subprocess.Popen[bytes]) -> float:
    started = time.perf_counter()
    send(_tree(process), signal.SIGCONT)
    _require_success(side, process.wait())
    return time.perf_counter() - started


def _tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    total = 0.0
    for one in _tree(process):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _require_success(side: Side, code: int) -> None:
    if code:
        raise RuntimeError(f"{side.name}: exit code {code}\n" + side.log.read_text(errors="replace")[-3000:])
