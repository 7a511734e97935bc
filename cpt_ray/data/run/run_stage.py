"""Run one function over the units of a stage in separate processes, skipping what an earlier attempt finished.

The processes are those of Ray Data, or of a pool on this machine, which needs no Ray. Called by `pipeline`, which names the
stages; the only module of `data` that imports ray. In: tasks. Out: what they reported (`reports`), as it arrives.

Guarantee: a task whose report and files are complete is not repeated; errors raised by a task arrive unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import pickle
import secrets
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from concurrent.futures.process import BrokenProcessPool
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from cpt_ray import errors
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.data.run.units import UnitContext, UnitTask, finished_units, keep_report
from cpt_ray.edges.logs import tell_warnings
from cpt_ray.edges.ray_runtime import cluster_cpus
from cpt_ray.edges.store.opening import answered, rely_on
from cpt_ray.errors import CptRayError, DataError
from cpt_ray.records import UnitReport

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called after every finished unit with the stage, the number of units done and the total."""

logger = logging.getLogger(__name__)
TaskT = TypeVar("TaskT", bound=UnitTask)
_Row: TypeAlias = dict[str, str]
"""What a worker returns of a unit: its report or its error, and its warnings."""
_SIGN_IN_S = 20.0
_TRIES = 3


def run_stage(
    stage: str,
    work: Callable[[TaskT, UnitContext], UnitReport],
    tasks: Sequence[TaskT],
    *,
    context: UnitContext,
    num_workers: int,
    progress: Progress | None,
    pool: Executor | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> UnitReports:
    """Run the tasks that no earlier attempt finished; return what all tasks reported.

    Args:
        stage: Its name.
        work: What to do with a unit; a function of a module, so that other processes find it.
        tasks: The units.
        context: Their settings and folders.
        num_workers: Units at once on Ray.
        progress: Called after every finished unit.
        pool: Processes on this machine to use instead of Ray.
        labels: Of the nodes to use, as Ray's `label_selector`.

    Raises:
        CptRayError: The error raised by a task, unchanged; or processes of the pool were killed again and again.
    """
    reports = UnitReports(stage, tasks, context)
    for report in finished_units(tasks, context, stage):
        reports.add(report)
    left = [task for task in tasks if not reports.has(task.unit)]
    if progress is not None:
        progress(stage, reports.num_done, len(tasks))
    if left:
        one_unit = functools.partial(_one_unit, work=work, kind=type(left[0]), context=context, buckets=answered())
        texts = [task.to_json() for task in left]
        rows = _on_ray(one_unit, texts, num_workers, labels) if pool is None else _in_pool(stage, one_unit, texts, pool)
        with contextlib.closing(rows):
            for row in rows:
                for text in json.loads(row["warned"]):
                    logger.warning("%s: %s", stage, text)
                if row["error"]:
                    # Raised again under its own class, so that exit code and fix are those of the task.
                    raise getattr(errors, row["error"])(row["problem"], fix=row["fix"])
                report = UnitReport.from_json(row["report"])
                keep_report(context, report, row["report"])
                reports.add(report, row["report"])
                if progress is not None:
                    progress(stage, reports.num_done, len(tasks))
    reports.save()
    return reports


def _on_ray(
    one_unit: Callable[..., _Row], tasks: Sequence[str], num_workers: int, labels: Mapping[str, str]
) -> Generator[_Row, None, None]:
    """The row of each task as it ends, run by Ray Data."""
    import ray.data

    expected = min(num_workers, len(tasks), max(1, cluster_cpus(labels)))
    here = ray.get_runtime_context()
    meet = None
    if expected > 1:
        meet = functools.partial(_meet, _meeting(here.get_node_id(), here.get_job_id()), secrets.token_hex(8), expected)
    settings = ray.data.DataContext.get_current()
    settings.enable_progress_bars = False
    settings.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # One block per task: with fewer, Ray Data runs several units in one task, one after another.
    data = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
    results = data.map_batches(
        functools.partial(_after_meeting, one_unit=one_unit, meet=meet),
        batch_size=1,
        batch_format="numpy",
        num_cpus=1,
        label_selector=dict(labels) or None,
        compute=ray.data.TaskPoolStrategy(size=min(num_workers, len(tasks))),
    )
    yield from results.iter_rows()


def _in_pool(stage: str, one_unit: Callable[..., _Row], tasks: Sequence[str], pool: Executor) -> Generator[_Row, None, None]:
    """The row of each task as it ends, run by processes of this machine; what a killed one left undone is run again."""
    left, pickled = dict.fromkeys(tasks), pickle.dumps(one_unit)
    for _ in range(_TRIES):
        futures = {pool.submit(_one_pickled, pickled, task): task for task in left}
        try:
            for future in as_completed(futures):
                with contextlib.suppress(BrokenProcessPool):
                    row = future.result()
                    del left[futures[future]]
                    yield row
        finally:
            for future in futures:
                future.cancel()
        if not left:
            return
        logger.warning("%s: a process was killed; %d units are not done yet", stage, len(left))
    raise DataError(
        f"{stage}: processes that prepare units were killed {_TRIES} times",
        fix="usually out of memory: lower runtime.prepare_workers or prepare.unit_bytes, then re-run the same command",
    )


@functools.lru_cache(maxsize=1)
def _unpickled(one_unit: bytes) -> Callable[[str], _Row]:
    loaded: Callable[[str], _Row] = pickle.loads(one_unit)  # noqa: S301  (pickled by the driver)
    return loaded


def _one_pickled(one_unit: bytes, task: str) -> _Row:
    """Run the task with a function that was pickled once for all tasks of a stage: it has the settings of the study in it."""
    return _unpickled(one_unit)(task)


def _after_meeting(
    batch: Mapping[str, Any], *, one_unit: Callable[[str], _Row], meet: Callable[[], None] | None
) -> dict[str, list[str]]:
    """Run the task of a batch of one in a worker of Ray Data."""
    if meet is not None:
        meet()
    return {key: [value] for key, value in one_unit(batch["task"][0]).items()}


def _one_unit(
    text: str,
    *,
    work: Callable[[TaskT, UnitContext], UnitReport],
    kind: type[TaskT],
    context: UnitContext,
    buckets: frozenset[str],
) -> _Row:
    """Run one unit in a worker. Errors that the user can fix are returned as a row: Ray Data's wrapping loses the exception."""
    rely_on(buckets)
    row = {"report": "", "error": "", "problem": "", "fix": ""}
    warned: list[str] = []
    try:
        with tell_warnings(warned.append):
            row["report"] = work(kind.from_json(text), context).to_json()
    except CptRayError as error:
        row.update(error=type(error).__name__, problem=error.problem, fix=error.fix)
    return {"warned": json.dumps(warned), **row}


class _Meeting:
    """An actor that counts the processes of a stage, on whatever node they are."""

    def __init__(self) -> None:
        self._there = defaultdict[str, set[str]](set)

    def enter(self, stage: str, who: str, expected: int) -> bool:
        """Count a process; whether all are there."""
        self._there[stage].add(who)
        return len(self._there[stage]) >= expected


@functools.lru_cache(maxsize=1)
def _meeting(_node: str, _job: str) -> Any:
    """One for all stages of a driver, because an actor takes seconds to start."""
    import ray

    return ray.remote(_Meeting).options(num_cpus=0).remote()


_MET: set[str] = set()
"""Stages of which this process has attended the meeting."""


def _meet(meeting: Any, stage: str, expected: int) -> None:
    """Hold the first task of a process until the other workers have started, for at most `_SIGN_IN_S`.

    Ray assigns queued tasks to existing processes; short units would all go to the one that started first.
    """
    import ray

    if stage in _MET:
        return
    _MET.add(stage)
    who, end = f"{socket.gethostname()}-{os.getpid()}", time.monotonic() + _SIGN_IN_S
    with contextlib.suppress(ray.exceptions.RayError):  # a meeting that is lost holds nobody up
        while not ray.get(meeting.enter.remote(stage, who, expected), timeout=_SIGN_IN_S) and time.monotonic() < end:
            time.sleep(0.05)
