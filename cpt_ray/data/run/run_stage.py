"""Run one function over the units of a stage on Ray Data, in separate processes, skipping what an earlier attempt finished.

Called by `pipeline`, which names the stages; the only module of `data` that imports ray. In: tasks. Out: their reports, in task
order. Memory: the reports.

Guarantee: a task whose report and files are complete is not repeated; errors raised by a task arrive unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import ray
import ray.data

from cpt_ray import errors
from cpt_ray.data.run.units import UnitContext, UnitTask, finished_unit
from cpt_ray.edges import storage
from cpt_ray.edges.logs import tell_warnings
from cpt_ray.errors import CptRayError
from cpt_ray.records import UnitReport

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called after every finished unit with the stage, the number of units done and the total."""

logger = logging.getLogger(__name__)
TaskT = TypeVar("TaskT", bound=UnitTask)
_SIGN_IN_S = 20.0


def run_stage(
    stage: str,
    work: Callable[[TaskT, UnitContext], UnitReport],
    tasks: Sequence[TaskT],
    *,
    context: UnitContext,
    num_workers: int,
    progress: Progress | None,
) -> list[UnitReport]:
    """Run the tasks that no earlier attempt finished; return the reports of all tasks, in task order.

    Raises:
        CptRayError: The error raised by a task, unchanged.
    """
    reports = {task.unit: report for task in tasks if (report := finished_unit(task, context, stage)) is not None}
    left = [task for task in tasks if task.unit not in reports]
    if progress is not None:
        progress(stage, len(reports), len(tasks))
    if left:
        sign_in = context.root / "units" / f".{stage}-{secrets.token_hex(4)}"
        expected = min(num_workers, len(left), max(1, int(ray.cluster_resources().get("CPU", 1))))
        one_unit = functools.partial(
            _one_unit, work=work, kind=type(left[0]), context=context, sign_in=str(sign_in), expected=expected
        )
        _quiet()
        # One block per task: with fewer, Ray Data runs several units in one task, one after another.
        data = ray.data.from_items([{"task": task.to_json()} for task in left], override_num_blocks=len(left))
        results = data.map_batches(
            one_unit,
            batch_size=1,
            batch_format="numpy",
            num_cpus=1,
            compute=ray.data.TaskPoolStrategy(size=min(num_workers, len(left))),
        )
        try:
            for row in results.iter_rows():
                for text in json.loads(row["warned"]):
                    logger.warning("%s: %s", stage, text)
                if row["error"]:
                    # Raised again under its own class, so that exit code and fix are those of the task.
                    raise getattr(errors, row["error"])(row["problem"], fix=row["fix"])
                report = UnitReport.from_json(row["report"])
                reports[report.unit] = report
                if progress is not None:
                    progress(stage, len(reports), len(tasks))
        finally:
            storage.remove_tree(sign_in)
    return [reports[task.unit] for task in tasks]


def _one_unit(
    batch: Mapping[str, Any],
    *,
    work: Callable[[TaskT, UnitContext], UnitReport],
    kind: type[TaskT],
    context: UnitContext,
    sign_in: str,
    expected: int,
) -> dict[str, list[str]]:
    """Run one unit in a worker. Errors that the user can fix are returned as a row: Ray Data's wrapping loses the exception."""
    _meet(Path(sign_in), expected)
    row = {"report": "", "error": "", "problem": "", "fix": ""}
    warned: list[str] = []
    try:
        with tell_warnings(warned.append):
            row["report"] = work(kind.from_json(batch["task"][0]), context).to_json()
    except CptRayError as error:
        row.update(error=type(error).__name__, problem=error.problem, fix=error.fix)
    return {"warned": [json.dumps(warned)], **{key: [value] for key, value in row.items()}}


def _meet(folder: Path, expected: int) -> None:
    """Hold the first task of a process until the other workers have started, for at most `_SIGN_IN_S`.

    Ray assigns queued tasks to existing processes; short units would all go to the one that started first.
    """
    mine = folder / f"{socket.gethostname()}-{os.getpid()}"
    if expected < 2 or mine.exists():
        return
    with contextlib.suppress(FileNotFoundError):  # the driver has finished the stage and removed the folder
        folder.mkdir(parents=True, exist_ok=True)
        mine.touch()
        end = time.monotonic() + _SIGN_IN_S
        while time.monotonic() < end and len(os.listdir(folder)) < expected:
            time.sleep(0.02)


def _quiet() -> None:
    settings = ray.data.DataContext.get_current()
    settings.enable_progress_bars = False
    settings.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
