"""Which run a group of workers trains next: the runs of a study with their parents, and what each group was given.

A run is ready when the checkpoint that it branches from is committed, so a branch does not wait for its trunk's end. Of the
ready runs, the one with the longest path is next: what it still trains and what can only follow it, in parameters x tokens. The
trunk thus never waits for its own branches. Runs are independent but for these checkpoints, so their order changes no weight.

The queue is an object of this process, or an actor where workers are other processes. Every worker of a group asks for itself;
guarantee: all get the same answer, also after a restart, because what a group was given stays on its list.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from cpt_ray.errors import CptRayError
from cpt_ray.records import Heartbeat, ImportedModel
from cpt_ray.train.checkpoint.committed import committed
from cpt_ray.train.task import TrainTask

Turn = int | Literal["wait", "end"]
"""The place of a run in the list of tasks; or to ask again later, or that the group is no longer needed."""

PATIENCE_S = 30.0
"""How long a group is kept for a run that is not ready: as long as starting another group takes."""


class Turns(Protocol):
    """What workers ask: a `RunQueue`, here or behind an actor."""

    def take(self, group: int, after: int | None) -> Turn:
        """What a worker of the group does after the run `after`, None when it starts."""

    def refuse(self, group: int, error: CptRayError) -> None:
        """A worker of a group refuses its run; the group is given no more, also after a restart."""

    def beat(self, place: int, beat: Heartbeat) -> bool:
        """A worker of a run is alive; returns whether the driver has asked all workers to stop."""


class RunQueue:
    """The runs that are left, and the groups that train them; may be called from several threads.

    Args:
        tasks: The runs; finished ones are passed over.
    """

    def __init__(self, tasks: Sequence[TrainTask]) -> None:
        self._tasks = list(tasks)
        places = {task.run_folder: place for place, task in enumerate(self._tasks)}
        self._parents = [places.get(task.parent_folder or "") for task in self._tasks]
        self._lengths = path_lengths(self._tasks)
        self._finished = {place for place, task in enumerate(self._tasks) if task.finished}
        self._before = frozenset(self._finished)
        self._given: dict[int, list[int | Literal["end"]]] = {}
        self._arrived: set[int] = set()
        """Groups whose workers have asked: others wait for nodes."""
        self._failed: set[int] = set()
        self._refused: dict[int, CptRayError] = {}
        self._ready: set[int] = set()
        self._waits_since: dict[int, float] = {}
        self._beats: dict[int, dict[int, Heartbeat]] = {}
        """By run and rank, the last heartbeats."""
        self._stopped = False
        self._lock, self._beats_lock = threading.Lock(), threading.Lock()
        """The first is held while a store is asked what is committed; a heartbeat must not wait for that."""

    def take(self, group: int, after: int | None) -> Turn:
        """What a worker of the group does after the run `after`, None when it starts."""
        with self._lock:
            self._arrived.add(group)
            if group in self._refused:
                return "end"
            given = self._given.setdefault(group, [])
            later = given if after is None else given[given.index(after) + 1 :]
            for turn in later:
                if turn == "end" or not self._is_finished(turn):
                    return turn
            following = self._next(group)
            if following != "wait":
                given.append(following)
            return following

    def refuse(self, group: int, error: CptRayError) -> None:
        """A worker of a group refuses its run; the group is given no more, also after a restart."""
        with self._lock:
            self._refused.setdefault(group, error)

    def refusal(self, group: int) -> CptRayError | None:
        """The first error with which a worker of a group refused."""
        with self._lock:
            return self._refused.get(group)

    def open(self, group: int) -> bool:
        """Give a group that is about to start its first run; False if there is none for it."""
        with self._lock:
            worth = [] if self._stopped else self._worth_a_group()
            if worth:
                self._given[group] = [worth[0]]
            return bool(worth)

    def close(self, group: int, *, failed: bool) -> None:
        """A group has ended. If it failed, so did its run, and what can only follow that is not trained."""
        with self._lock:
            given = self._given[group]
            self._waits_since.pop(group, None)
            if failed:
                self._failed.update(turn for turn in given if isinstance(turn, int) and not self._is_finished(turn))
            if given[-1:] != ["end"]:
                given.append("end")

    def wanted(self) -> int:
        """For how many runs another group should be started: they are ready, and no group will take them soon."""
        with self._lock:
            idle = sum(group not in self._arrived and not given for group, given in self._given.items())
            return 0 if self._stopped else len(self._worth_a_group()) - len(self._waits_since) - idle

    def given(self) -> list[int]:
        """The runs that groups were given so far, finished or not."""
        with self._lock:
            return self._taken()

    def run_of(self, group: int) -> int | None:
        """The last run that a group was given."""
        with self._lock:
            runs = [turn for turn in self._given.get(group, ()) if isinstance(turn, int)]
            return runs[-1] if runs else None

    def waits_in_vain(self, group: int) -> bool:
        """Whether a group waits for nodes and has nothing to do on them."""
        with self._lock:
            if group in self._arrived:
                return False
            return self._stopped or all(turn == "end" or self._is_finished(turn) for turn in self._given.get(group, ()))

    def beat(self, place: int, beat: Heartbeat) -> bool:
        """A worker of a run is alive; returns whether the driver has asked all workers to stop."""
        with self._beats_lock:
            self._beats.setdefault(place, {})[beat.rank] = beat
        return self._stopped

    def beats(self, place: int) -> tuple[Heartbeat, ...]:
        """The last heartbeats of a run's workers, by rank, since this command began."""
        with self._beats_lock:
            beats = sorted(self._beats.get(place, {}).values(), key=lambda beat: beat.rank)
        # An earlier start may have had more workers.
        workers = max(beats, key=lambda beat: beat.time).world_size if beats else 0
        return tuple(beat for beat in beats if beat.rank < workers)

    def stop(self) -> None:
        """Ask all workers to save and end; they are told when they next say that they are alive."""
        self._stopped = True

    def _next(self, group: int) -> Turn:
        ready = [] if self._stopped else self._ready_runs() or self._taken_back()
        if ready:
            self._waits_since.pop(group, None)
            return ready[0]
        since = self._waits_since.setdefault(group, time.monotonic())
        if not self._stopped and self._is_more_to_come() and time.monotonic() - since < PATIENCE_S:
            return "wait"
        del self._waits_since[group]
        return "end"

    def _taken_back(self) -> list[int]:
        """The first run that a group was given which still waits for nodes: a group that has them need not."""
        for group, given in self._given.items():
            if group not in self._arrived and given and (run := given[-1]) != "end":
                given.clear()
                return [run]
        return []

    def _ready_runs(self) -> list[int]:
        """Runs that no group was given and that can start, the longest path first."""
        left = self._left()
        waiting = left - self._ready
        reached = {parent: self._saved_tokens(parent) for parent in {self._parents[place] for place in waiting}}
        self._ready.update(p for p in waiting if reached[self._parents[p]] >= self._tasks[p].spec.start_tokens)
        return sorted(left & self._ready, key=lambda place: (-self._lengths[place], place))

    def _worth_a_group(self) -> list[int]:
        """Ready runs without those that begin where their parent ends, while its own group is about to end it."""
        return [place for place in self._ready_runs() if not self._follows_at_once(place)]

    def _follows_at_once(self, place: int) -> bool:
        parent = self._parents[place]
        if parent is None or parent in self._failed or parent not in self._taken() or self._is_finished(parent):
            return False
        return self._tasks[place].spec.start_tokens >= self._tasks[parent].spec.stop_tokens

    def _saved_tokens(self, parent: int | None) -> float:
        """How far a branch of a run may start: up to its newest committed checkpoint, and after its end anywhere.

        Where a parent of an earlier command has no checkpoint, the worker says what is wrong.
        """
        if parent is None or self._is_finished(parent):
            return math.inf
        saved = committed(Path(self._tasks[parent].run_folder))
        return saved[-1][1].progress.tokens_spent if saved else -1

    def _is_more_to_come(self) -> bool:
        """Whether a run is left that can still become ready: its parents did not fail before their checkpoints."""
        left = self._left()

        def lost(place: int) -> bool:
            parent = self._parents[place]
            if parent is None or place in self._ready:
                return False
            return parent in self._failed or (parent in left and lost(parent))

        return any(not lost(place) for place in left)

    def _left(self) -> set[int]:
        # A run that no group was given cannot have finished since.
        return set(range(len(self._tasks))) - self._before - set(self._taken())

    def _taken(self) -> list[int]:
        return [turn for given in self._given.values() for turn in given if isinstance(turn, int)]

    def _is_finished(self, place: int) -> bool:
        if place not in self._finished and self._tasks[place].finished:
            self._finished.add(place)  # and stays so: storage may be far
        return place in self._finished


def path_lengths(tasks: Sequence[TrainTask]) -> list[float]:
    """Parameters x tokens from the start of each run to the end of the last run that can only follow it."""
    sizes = {task.model_folder: ImportedModel.of(task.model_folder).shape.parameters for task in tasks}
    tokens = [0.0] * len(tasks)
    places = {task.run_folder: place for place, task in enumerate(tasks)}
    for place in reversed(range(len(tasks))):  # parents stand before their branches
        spec, parent = tasks[place].spec, places.get(tasks[place].parent_folder or "")
        tokens[place] = max(tokens[place], spec.stop_tokens - spec.start_tokens)
        if parent is not None:
            tokens[parent] = max(tokens[parent], spec.start_tokens - tasks[parent].spec.start_tokens + tokens[place])
    return [sizes[task.model_folder] * length for task, length in zip(tasks, tokens, strict=True)]
