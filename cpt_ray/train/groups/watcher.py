"""What the driver sees of all runs that train: their steps and events, read from run storage, hangs, and who is behind.

It sees the same whichever nodes the workers are on. Runs are followed from the moment when a group is given them, in a thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cpt_ray.edges.logs import FOLDER
from cpt_ray.edges.store.lines import look_every_s
from cpt_ray.errors import problem_of
from cpt_ray.records import Heartbeat, RunEvent, RunRecord
from cpt_ray.train.monitor.heartbeat import SilenceWatch, describe, laggards
from cpt_ray.train.monitor.metrics import EVENTS, RunSteps, StepReader, append_driver_event, bring_run, read_events
from cpt_ray.train.task import TrainTask

logger = logging.getLogger(__name__)


class RunObserver(Protocol):
    """Told what becomes of the runs, from one thread; a run is known by its place in the list of tasks."""

    def begun(self, place: int) -> None:
        """A group was given the run."""

    def stepped(self, place: int, steps: RunSteps) -> None:
        """About once a second: the steps of a run so far."""

    def happened(self, place: int, event: RunEvent) -> None:
        """A resume, loss spike, skipped step, warning or hang."""

    def done(self, place: int, record: RunRecord) -> None:
        """A run has ended."""


class Given(Protocol):
    """What is asked of the queue: a `RunQueue`, here or behind an actor."""

    def given(self) -> list[int]:
        """The places of the runs that groups were given so far."""

    def beats(self, place: int) -> tuple[Heartbeat, ...]:
        """The last heartbeats of a run's workers, by rank."""


class Watcher(threading.Thread):
    """Polls the runs' folders and tells the observer; an error in either is said, and goes if a later look has none.

    Args:
        tasks: The runs.
        queue: Which of them were given, and the heartbeats of their workers.
        observer: Told what becomes of them.
    """

    def __init__(self, tasks: Sequence[TrainTask], queue: Given, observer: RunObserver) -> None:
        super().__init__(daemon=True)
        self._errors: dict[int, Exception] = {}
        self._tasks, self._queue, self._observer = tasks, queue, observer
        # Already reported by earlier starts of the same command.
        self._told = {_key(task.run_folder, event) for task in tasks for event in read_events(Path(task.run_folder))}
        self._active: dict[int, SilenceWatch] = {}
        self._steps = [StepReader(Path(task.run_folder)) for task in tasks]
        self._sizes: dict[int, dict[str, int]] = {}
        """Of the files of events, as last read."""
        self._done: set[int] = set()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Look about once a second; runs in the thread."""
        self._look(range(len(self._tasks)))  # a run may have ended before its driver could say so
        every_s = min((look_every_s(Path(task.run_folder)) for task in self._tasks), default=1.0)
        while not self._stopping.wait(every_s):
            self._look(())

    def finish(self) -> None:
        """Stop, after one last look."""
        self._stopping.set()
        self.join()
        self._look(())

    @property
    def error(self) -> Exception | None:
        """The error of the last look at a run; None if all went well."""
        return next(iter(self._errors.values()), None)

    def who_is_behind(self, place: int) -> str:
        """The worker of a run that the others wait for, as the end of a sentence; empty if none is behind."""
        beats = self._queue.beats(place)
        behind: Sequence[Heartbeat] = laggards(beats) if len(beats) > 1 else ()
        return f"; {describe(behind)}, behind the others" if behind else ""

    def log_folders(self) -> list[Path]:
        """The log folders of the workers whose runs have not ended."""
        folders = [Path(self._tasks[place].run_folder) / FOLDER for place in self._active]
        return [folder for folder in folders if folder.is_dir()]

    def _look(self, also: Sequence[int]) -> None:
        try:
            places = dict.fromkeys([*self._queue.given(), *(place for place in also if self._tasks[place].finished)])
        except Exception as error:
            self._failed(-1, error)
            return
        self._errors.pop(-1, None)
        for place in places:
            if place not in self._done:
                try:
                    self._look_at(place)
                except Exception as error:  # the run trains on; a bucket may be away for a while, a disk full
                    self._failed(place, error)
                else:
                    self._errors.pop(place, None)

    def _failed(self, place: int, error: Exception) -> None:
        """Keep an error for the driver, which raises it in the end, and say it once."""
        before, self._errors[place] = self._errors.get(place), error
        if before is None or problem_of(before) != problem_of(error):
            logger.warning("%s; training goes on, and is looked at again", problem_of(error), exc_info=error)

    def _look_at(self, place: int) -> None:
        task = self._tasks[place]
        if place not in self._active:
            self._observer.begun(place)
            self._active[place] = SilenceWatch(task.settings.train.watch.hang_report)
        finished = task.finished  # checked before the steps are read, so that they are complete
        bring_run(Path(task.run_folder))
        steps = self._steps[place].read()
        if steps.last:
            self._observer.stepped(place, steps)
        self._tell_events(place)
        if not finished:
            self._look_for_silence(place, steps)
            return
        self._observer.done(place, RunRecord.of(task.run_folder))
        self._done.add(place)
        del self._active[place]

    def _tell_events(self, place: int) -> None:
        folder = self._tasks[place].run_folder
        sizes = {path.name: path.stat().st_size for path in (Path(folder) / EVENTS).glob("*.jsonl")}
        if self._sizes.get(place) == sizes:
            return
        for event in read_events(Path(folder)):
            key = _key(folder, event)
            if event.kind != "checkpoint" and key not in self._told:
                self._told.add(key)
                self._observer.happened(place, event)
        self._sizes[place] = sizes

    def _look_for_silence(self, place: int, steps: RunSteps) -> None:
        folder = Path(self._tasks[place].run_folder)
        silence = self._active[place].look(self._queue.beats(place), slowest_step_s=steps.slowest_s)
        if silence is None:
            return
        event = RunEvent(
            kind="hang",
            attempt=steps.attempt,
            step=max((beat.step for beat in silence.behind), default=steps.last[-1].step if steps.last else 0),
            tokens_seen=steps.last[-1].tokens_seen if steps.last else 0,
            text=str(silence),
            seconds=silence.seconds,
            rank=silence.behind[0].rank if silence.behind else None,
        )
        append_driver_event(folder, event)
        self._tell_events(place)


def _key(run_folder: str, event: RunEvent) -> tuple[str, str, int, int, str]:
    if event.kind == "warning":  # once for all workers, and for all runs, with the same text
        return "", event.kind, event.attempt, 0, event.text
    return run_folder, event.kind, event.attempt, event.step, ""
