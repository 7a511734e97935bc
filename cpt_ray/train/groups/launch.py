"""Train the runs of a study: in groups of workers under Ray Train that run side by side, or in this process.

In: runs, parents before branches. A group is started for a run that is ready (`queue.py`) as long as the cluster has room
(`room.py`), and then serves further runs. Out: what becomes of each run, told to an observer as it happens (`watcher.py`).

A group that ends with an error is not replaced. The others go on with all that does not need its run, because that is trained
anyway and nothing of it is lost; the error is said at once and raised in the end. A stop reaches all groups: each saves first,
and those that still wait for nodes are not waited for.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.logs import LOCATIONS
from cpt_ray.edges.process import choose_accelerator
from cpt_ray.edges.ray_runtime import (
    cluster_address,
    cluster_may_grow,
    nodes_at_most,
    operator_environment,
    put_interpreter_on_path,
    require_cluster_gpus,
    working_nodes,
)
from cpt_ray.edges.storage import remove_tree
from cpt_ray.errors import TrainingError, TrainingStopped, problem_of
from cpt_ray.train.groups.queue import RunQueue
from cpt_ray.train.groups.room import parallel_groups
from cpt_ray.train.groups.serve import serve
from cpt_ray.train.groups.under_ray import QueueActor, fit_group
from cpt_ray.train.groups.watcher import RunObserver, Watcher
from cpt_ray.train.task import TrainTask

logger = logging.getLogger(__name__)
_LOOK_S = 0.2
"""Short, so that a signal's handler runs."""
_WANTED_S = 1.0
"""Between questions to the queue, which reads checkpoints."""


def run_training(
    tasks: Sequence[TrainTask], *, name: str, runtime: RuntimeConfig, storage: Path, observer: RunObserver
) -> None:
    """Train runs to completion.

    Args:
        tasks: The runs, parents before branches; finished ones are skipped.
        name: Begins the names of the Ray Train runs.
        runtime: Workers and resources.
        storage: Folder for Ray Train's own files, removed at the end.
        observer: Told what becomes of the runs.

    Raises:
        CptRayError: The error with which a run refused; of several, the first that is not a stop.
        TrainingStopped: If SIGINT or SIGTERM requested a stop; the workers of all groups have saved.
        KeyboardInterrupt: On a second such signal; unsaved progress is lost.
        TrainingError: If the workers of a group failed more than `runtime.max_failures` times.
    """
    local = runtime.kind == "local"
    queue = RunQueue(tasks) if local else QueueActor(tasks)
    watcher = Watcher(tasks, queue, observer)
    watcher.start()
    try:
        with stop_on_signals(queue.stop):
            if isinstance(queue, RunQueue):
                errors = _run_here(tasks, queue)
            else:
                errors = _Groups(tasks, name, runtime, storage, queue, watcher).run()
    except BaseException:
        LOCATIONS.extend(watcher.log_folders())
        raise
    finally:
        watcher.finish()
    if errors:
        LOCATIONS.extend(watcher.log_folders())
        raise next((error for error in errors if not isinstance(error, TrainingStopped)), errors[0])
    if watcher.error is not None:
        raise watcher.error
    if left := [task.spec.name for task in tasks if not task.finished]:  # a stop between two runs
        raise TrainingStopped(f"stopped before {', '.join(left)}", fix="re-run the same command to resume")


def _run_here(tasks: Sequence[TrainTask], queue: RunQueue) -> list[BaseException]:
    choose_accelerator()
    os.environ.update(operator_environment())
    put_interpreter_on_path()
    # The same entry point as under Ray: a run behaves alike wherever it is trained.
    refusal = serve(queue, 0, tasks) if queue.open(0) else None
    return [refusal] if refusal else []


@dataclass
class _Group:
    """A group of workers in a thread: in the main one Ray would handle SIGINT and abort the workers before they save."""

    thread: threading.Thread
    errors: list[BaseException] = field(default_factory=list)
    crashed: bool = False


class _Groups:
    """Starts groups as runs become ready, and waits for all of them."""

    def __init__(
        self,
        tasks: Sequence[TrainTask],
        name: str,
        runtime: RuntimeConfig,
        storage: Path,
        queue: QueueActor,
        watcher: Watcher,
    ) -> None:
        self._tasks, self._name, self._runtime, self._storage = tasks, name, runtime, storage
        self._queue, self._watcher = queue, watcher
        self._groups: dict[int, _Group] = {}
        self._started = 0
        self._errors: list[BaseException] = []
        self._warned = ""

    def run(self) -> list[BaseException]:
        """Train until no group is left; return the errors of those that failed, in order."""
        require_cluster_gpus(self._runtime)
        asked = -math.inf
        while True:
            ended = [number for number, group in self._groups.items() if not group.thread.is_alive()]
            for number in ended:
                self._end(number)
            if ended or time.monotonic() - asked >= _WANTED_S:
                asked = time.monotonic()
                if not self._errors:
                    self._start_wanted()
                if self._groups and all(self._queue.waits_in_vain(number) for number in self._groups):
                    self._leave_waiting()
                    break
            if not self._groups:
                break
            time.sleep(_LOOK_S)
        if not self._errors:
            remove_tree(self._storage)  # Ray Train's own bookkeeping: checkpoints and results are in the runs' folders
        return self._errors

    def _leave_waiting(self) -> None:
        """Leave the groups that still wait for nodes, as Ray does without a limit: should nodes come, their workers end."""
        logger.info("%d group(s) still wait for nodes, with nothing left to train", len(self._groups))
        for number in self._groups:
            self._queue.refuse(number, TrainingStopped("nothing is left to train", fix="re-run the same command to resume"))

    def _room(self) -> int:
        room, warning = parallel_groups(
            self._runtime,
            working_nodes(self._runtime),
            private=cluster_address(self._runtime) is None,
            may_grow=cluster_may_grow(),
            at_most=nodes_at_most(),
        )
        if warning is not None and not self._warned:
            logger.warning(warning)
            self._warned = warning
        return room

    def _start_wanted(self) -> None:
        """Start a group for each run that is ready and that no waiting group will take, as far as there is room."""
        for _ in range(self._queue.wanted()):
            if len(self._groups) >= self._room() or not self._queue.open(self._started):
                return
            number, self._started = self._started, self._started + 1
            group = _Group(threading.Thread(target=self._fit, args=(number,), daemon=True))
            self._groups[number] = group
            group.thread.start()

    def _fit(self, number: int) -> None:
        group = self._groups[number]
        try:
            refusal = fit_group(
                number,
                self._tasks,
                self._queue,
                name=f"{self._name}-{number}",
                runtime=self._runtime,
                storage=self._storage,
            )
            group.errors += [refusal] if refusal else []
        except BaseException as error:  # raised by the driver: an exception in a thread is only printed
            group.errors.append(error)
            group.crashed = True

    def _end(self, number: int) -> None:
        group = self._groups.pop(number)
        place = self._queue.run_of(number)
        self._queue.close(number, failed=bool(group.errors))
        for error in group.errors:
            if type(error) is TrainingError and place is not None:
                behind = self._watcher.who_is_behind(place) if group.crashed else ""
                error = TrainingError(f"{self._tasks[place].spec.name}: {error.problem}{behind}", fix=error.fix)
            self._errors.append(error)
            if self._groups and not isinstance(error, TrainingStopped):
                logger.warning("%s; the other groups go on, and the command ends with this error", problem_of(error))


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to all workers; the second ends everything at once.

    Args:
        stop: Called in a thread, because a handler may not wait: tells the queue, which tells the workers.
    """
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        threading.Thread(target=stop, daemon=True).start()
        sys.stderr.write(
            "\nstopping: the workers save a checkpoint first; a second signal stops at once and loses unsaved progress\n"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
