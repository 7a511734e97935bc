"""Two processes on a machine whose speed drifts: they take turns of a few steps, so that a drift meets both alike.

In: two `Side`s, each a command that leaves a line in a file when a step is finished. Out: seconds and CPU seconds of each step.
The side whose turn it is not is stopped by SIGSTOP with all its processes, Ray's daemons too. The first step of a turn is not
measured: after SIGCONT, threads find their cores again, and daemons do what they have put off. A step lasts from one finished
step to the next, seen within `POLL_S`. Turns were chosen after whole processes in a row gave ratios between 0.5 and 1.9 for the
very same code: a shared machine changes its speed by a factor of two within a minute.
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
"""Steps of a turn, of which all but the first are measured."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A Python process that takes steps.

    Args:
        name: For messages.
        arguments: Of the interpreter.
        environment: All of the process's.
        log: Where its output goes.
        steps_done: How many steps it has finished, by what it has written.
    """

    name: str
    arguments: list[str]
    environment: dict[str, str]
    log: Path
    steps_done: Callable[[], int]


@dataclass
class Turns:
    """What the measured steps of one side took: seconds of wall and of CPU, and which of its steps these are, from 0."""

    numbers: list[int] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def run_alone(side: Side) -> None:
    """Run a side to its end.

    Raises:
        RuntimeError: With the end of its output, if it fails.
    """
    with side.log.open("w") as stream:
        done = subprocess.run(
            [sys.executable, *side.arguments],
            cwd=REPOSITORY, env=side.environment, stdout=stream, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    _require_success(side, done.returncode)


def run_in_turns(sides: tuple[Side, Side], *, warmup: int, steps: int) -> tuple[Turns, Turns]:
    """Run both sides to their ends: `warmup` steps each, then `steps` in turns.

    Raises:
        ValueError: If `steps` is not a multiple of `TURN_STEPS`.
        RuntimeError: With the end of its output, if a side fails; if there are steps before it has begun.
    """
    if steps % TURN_STEPS:
        raise ValueError(f"{steps} steps cannot be taken in turns of {TURN_STEPS}")
    seen = (Turns(), Turns())
    with _started(sides[0]) as first:
        _take_turn(sides[0], first, range(warmup))
        with _started(sides[1]) as second:
            _take_turn(sides[1], second, range(warmup))
            for start in range(warmup, warmup + steps, TURN_STEPS):
                for side, process, turns in zip(sides, (first, second), seen, strict=True):
                    numbers = range(start, start + TURN_STEPS)
                    for number, (wall_s, cpu_s) in list(zip(numbers, _take_turn(side, process, numbers), strict=True))[1:]:
                        turns.numbers.append(number)
                        turns.step_s.append(wall_s)
                        turns.cpu_s.append(cpu_s)
            _finish(sides[1], second)
        _finish(sides[0], first)
    return seen


@contextmanager
def _started(side: Side) -> Iterator[subprocess.Popen[bytes]]:
    if side.steps_done():
        raise RuntimeError(f"{side.name} has {side.steps_done()} steps before it has begun, of another run")
    with side.log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, *side.arguments], cwd=REPOSITORY, env=side.environment, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            send(_tree(process), signal.SIGKILL)
            process.wait()


def _take_turn(side: Side, process: subprocess.Popen[bytes], numbers: range) -> list[tuple[float, float]]:
    """Let a side go on until it has finished these steps, and stop it there; seconds of wall and of CPU of each."""
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


def _finish(side: Side, process: subprocess.Popen[bytes]) -> None:
    send(_tree(process), signal.SIGCONT)
    _require_success(side, process.wait())


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
