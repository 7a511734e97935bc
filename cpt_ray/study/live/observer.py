"""What a study does with the news of its runs: progress lines, a permanent line per event, the live mirror, and the commit."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

from cpt_ray.records import RunEvent, RunRecord
from cpt_ray.study.live.lines import describe_event, describe_mixes, describe_running, describe_steps
from cpt_ray.study.stages.stage import Node, Session
from cpt_ray.train.monitor.metrics import RunSteps, read_metrics


class StudyObserver:
    """Told of the runs of a study while they train; a `RunObserver`, called from one thread.

    Args:
        nodes: The runs as artifacts.
        session: Where the study reports and commits.
    """

    def __init__(self, nodes: Sequence[Node[Any, RunRecord]], session: Session) -> None:
        self._nodes, self._session = nodes, session
        self._live = [session.live_run(node) for node in nodes]
        self._started: dict[int, float] = {}
        self._steps: dict[int, RunSteps] = {}
        self._done = 0

    def begun(self, place: int) -> None:
        """A group was given the run."""
        self._started[place] = time.perf_counter()

    def stepped(self, place: int, steps: RunSteps) -> None:
        """Show the runs that train, and mirror this one."""
        self._steps[place] = steps
        of_all = f"run {place + 1}/{len(self._nodes)}"
        running = [(self._live[one].spec, found) for one, found in self._steps.items()]
        alone = len(running) == 1
        self._session.console.progress(
            describe_steps(*running[0], of_all) if alone else describe_running(running, self._done, len(self._nodes))
        )
        self._live[place].mirror(functools.partial(read_metrics, self._nodes[place].folder, rows=False))

    def happened(self, place: int, event: RunEvent) -> None:
        """Print an event."""
        console, line = self._session.console, describe_event(self._live[place].spec, event)
        console.warn(line) if event.kind in ("warning", "hang") else console.step(f"  {line}")

    def done(self, place: int, record: RunRecord) -> None:
        """Commit the run."""
        self._steps.pop(place, None)
        self._done += 1
        self._session.commit(self._nodes[place], started=self._started[place])
        for line in describe_mixes(record):
            self._session.console.step(line)
