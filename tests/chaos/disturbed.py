"""Run a study on a simulated cluster, kill processes by schedule, restart the same command, and record what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.cluster import SimulatedCluster
from tests.chaos.schedule import Kill
from tests.integration.tiny_study import TinyStudy

_POLL_S = 0.05
_ALIVE = ("attempts/*", "metrics/*", "checkpoints/*/manifest.json", "run.json")
"""Files of a run that show progress. The lease is not one of them: its heartbeat continues in a driver that hangs."""


_WORK = ("ray::RayTrainWorker", "ray::MapBatches", "ray::_evaluate_in_task")
"""Titles of processes that do our work. Not Ray's helpers: a node, even the head, shuts down if one of its agents dies."""


class HangError(AssertionError):
    """No progress for too long; the message has the stacks of driver and workers."""


@dataclass
class Disturbed:
    """The kills of a study, and the restarts and time it took."""

    killed: list[str] = field(default_factory=list)
    """One line per kill: when, what, and the study's progress."""
    victims: Counter[str] = field(default_factory=Counter)
    drivers: int = 0
    """Number of times the command was started."""
    ended_by_themselves: list[str] = field(default_factory=list)
    """Final output of drivers that exited with an error; allowed if their raylet was killed."""
    output: str = ""
    """Output of the last driver."""
    wall_s: float = 0.0


class WatchedRun:
    """A study that runs on a cluster, and the kills inflicted on it."""

    def __init__(self, study: TinyStudy, cluster: SimulatedCluster, *, overrides: tuple[str, ...], hang_s: float) -> None:
        self.study, self.cluster, self.overrides, self.hang_s = study, cluster, overrides, hang_s
        self.done = Disturbed()
        self.started = self.last_kill = time.time()
        self._returns: dict[int, float] = {}
        self._seen: tuple[int, float] = (0, 0.0)
        self._moved = time.monotonic()
        self.log = study.config.parent / "driver.log"
        self.driver: subprocess.Popen[bytes]

    def start_driver(self) -> None:
        command = [sys.executable, "-m", "cpt_ray.cli.main", "run", str(self.study.config), *self.overrides]
        with self.log.open("wb") as log:
            self.driver = subprocess.Popen(command, env=self.cluster.environment, stdout=log, stderr=log)
        self.done.drivers += 1
        self._moved = time.monotonic()

    def look(self) -> bool:
        """Do one round of watching: restore nodes, restart a failed driver; return whether the study is finished.

        Raises:
            HangError: If no file of the study changed for `hang_s`.
        """
        for node in [node for node, when in self._returns.items() if time.monotonic() >= when]:
            self.cluster.add(node)
            del self._returns[node]
        code = self.driver.poll()
        if code == 0:
            return True
        if code is not None:
            self.done.ended_by_themselves.append(f"exit code {code}: {_tail(self.log, 300)}")
            self.start_driver()
        if (seen := self._footprint()) != self._seen:
            self._seen, self._moved = seen, time.monotonic()
        if time.monotonic() - self._moved > self.hang_s:
            raise HangError(f"no progress for {self.hang_s:.0f} s\n{self._stacks()}\n{_tail(self.log, 3000)}")
        time.sleep(_POLL_S)
        return False

    def wait_for(self, kill: Kill) -> None:
        """Wait until a kill is due.

        Raises:
            AssertionError: If the study ends before it.
        """
        while not self._is_time(kill):
            assert not self.look(), f"the study ended before this kill was due, {kill}: {self.done.killed}"

    def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait for a condition on the study's files.

        Raises:
            AssertionError: If the study ends before it.
        """
        while not happened():
            assert not self.look(), f"the study ended before {what}"

    def kill(self, kill: Kill) -> None:
        where = self._where()
        if kill.victim == "driver":
            pid = self.driver.pid
            self.driver.kill()
            self.driver.wait(30)
            self.start_driver()
        elif kill.victim == "raylet":
            node = kill.which % self.cluster.nodes
            pid = self.cluster.kill(node)
            self._returns[node] = time.monotonic() + kill.away_s
        else:
            pid = self._workers()[kill.which % len(self._workers())]
            os.kill(pid, signal.SIGKILL)
        self.last_kill = time.time()
        self._moved = time.monotonic()
        self.done.victims[kill.victim] += 1
        self.done.killed.append(f"{self.last_kill - self.started:6.1f} s  {kill}; {where}; process {pid}")

    def _is_time(self, kill: Kill) -> bool:
        if kill.victim == "raylet" and kill.which % self.cluster.nodes in self._returns:
            return False  # the node is already down
        if kill.victim == "worker" and not self._workers():
            return False
        if kill.steps is None:
            return time.time() - self.last_kill >= kill.seconds
        newest = self._newest_metrics()
        return newest is not None and newest.stat().st_mtime > self.last_kill and _lines(newest) >= kill.steps

    def _newest_metrics(self) -> Path | None:
        """Metrics of the newest attempt, if it was announced after the last kill."""
        attempts = [
            path for path in self.study.root.glob("train/*/attempts/attempt-*.json") if path.stat().st_mtime > self.last_kill
        ]
        if not attempts:
            return None
        attempt = max(attempts, key=lambda path: path.stat().st_mtime)
        metrics = attempt.parents[1] / "metrics" / f"{attempt.stem}.jsonl"
        return metrics if metrics.exists() else None

    def _workers(self) -> list[int]:
        """Training workers, data tasks and scoring tasks on the cluster's nodes."""
        found = []
        for process in self.cluster.processes():
            try:
                title = process.cmdline()[:1]
            except psutil.Error:
                continue
            if title and title[0].startswith(_WORK):
                found.append(process.pid)
        return sorted(found)

    def _footprint(self) -> tuple[int, float]:
        times = [
            path.stat().st_mtime for pattern in _ALIVE for path in self.study.root.glob(f"train/*/{pattern}") if path.exists()
        ]
        # A waiting driver repeats the same line.
        said = len(set(self.log.read_bytes().splitlines()))
        return len(times) + said, max(times, default=0.0)

    def _where(self) -> str:
        """The study's progress, in words."""
        metrics = max(self.study.root.glob("train/*/metrics/*.jsonl"), key=lambda path: path.stat().st_mtime, default=None)
        if list(self.study.root.glob("evaluate/*")):
            return "scoring"
        if metrics is None:
            return "before training"
        return f"in {metrics.parents[1].name[:-9]}, {metrics.stem}, {_lines(metrics)} steps in"

    def _stacks(self) -> str:
        """Python stacks of the driver and of the cluster's workers."""
        dumps = []
        for pid in [self.driver.pid, *self._workers()]:
            dump = subprocess.run(["py-spy", "dump", "--pid", str(pid)], capture_output=True, text=True, timeout=60)
            dumps.append(dump.stdout + dump.stderr)
        return "\n".join(dumps)

    def end(self) -> None:
        self.done.wall_s = time.time() - self.started
        self.done.output = self.log.read_text(errors="replace")
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait(30)


def run_disturbed(
    study: TinyStudy,
    cluster: SimulatedCluster,
    schedule: tuple[Kill, ...] = (),
    *,
    overrides: tuple[str, ...] = (),
    hang_s: float = 300,
) -> Disturbed:
    """Run a study to completion through all kills of a schedule; without one, undisturbed.

    Raises:
        HangError: If there is no progress for `hang_s`.
        AssertionError: If the study ends before the schedule does.
    """
    run = WatchedRun(study, cluster, overrides=overrides, hang_s=hang_s)
    run.start_driver()
    try:
        for kill in schedule:
            run.wait_for(kill)
            run.kill(kill)
        while not run.look():
            pass
    finally:
        run.end()
    return run.done


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _tail(path: Path, characters: int) -> str:
    return path.read_text(errors="replace")[-characters:].strip()
