"""A stage, on Ray and in a pool: finished work is not repeated, errors arrive unchanged, warnings are forwarded."""

import functools
import logging
import os
from pathlib import Path

import pytest

from cpt_ray.data.run.run_stage import run_stage
from cpt_ray.data.run.units import UnitContext, UnitTask, finish_unit
from cpt_ray.edges.process import process_pool
from cpt_ray.edges.store import opening
from cpt_ray.errors import DataError
from cpt_ray.records import UnitFacts, UnitReport
from tests.data.conftest import settings

TASKS = [UnitTask(unit=f"law-{number:05d}", source="law") for number in range(5)]


def context_in(folder: Path) -> UnitContext:
    return UnitContext(folder=str(folder), sources=(), prepare=settings())


def count(task: UnitTask, context: UnitContext, number: int) -> UnitReport:
    """Report `number` for a unit."""
    return finish_unit(task, context, "stage", {}, UnitFacts(counts={"number": number, "pid": os.getpid()}))


def refuse(task: UnitTask, context: UnitContext) -> UnitReport:
    raise DataError(f"{task.unit}: spoiled", fix="fetch it again")


def warn(task: UnitTask, context: UnitContext) -> UnitReport:
    logging.getLogger("cpt_ray.anything").warning("%s looks odd", task.unit)
    return finish_unit(task, context, "stage", {})


def die(task: UnitTask, context: UnitContext) -> UnitReport:
    os._exit(9)


def tell_answered(task: UnitTask, context: UnitContext) -> UnitReport:
    raise DataError(" ".join(sorted(opening.answered())), fix="as planned")


def counted(number: int):
    return functools.partial(count, number=number)


@pytest.fixture(params=[pytest.param("ray", marks=pytest.mark.ray), "pool"], name="pool")
def pool_or_ray(request):
    """Where the units are processed: None is Ray."""
    if request.param == "ray":
        request.getfixturevalue("ray_session_2cpu")
        yield None
        return
    with process_pool(2) as pool:
        yield pool


def test_reports_come_in_the_order_of_the_tasks_and_finished_units_are_kept(tmp_path: Path, pool) -> None:
    context, heard = context_in(tmp_path), []
    for task in TASKS[1:3]:
        counted(1)(task, context)
    told = {"progress": lambda *told: heard.append(told), "pool": pool}
    reports = run_stage("stage", counted(2), TASKS, context=context, num_workers=2, **told)
    assert [report.unit for report in reports] == [task.unit for task in TASKS]
    assert [report.counts["number"] for report in reports] == [2, 1, 1, 2, 2]
    assert heard == [("stage", done, 5) for done in (2, 3, 4, 5)]
    assert os.getpid() not in {report.counts["pid"] for report in reports if report.counts["number"] == 2}
    assert not list((tmp_path / "units").glob(".stage-*"))  # where the workers met


def test_an_error_comes_back_as_it_was_raised(tmp_path: Path, pool) -> None:
    with pytest.raises(DataError, match="law-00000: spoiled") as caught:
        run_stage("stage", refuse, TASKS[:1], context=context_in(tmp_path), num_workers=2, progress=None, pool=pool)
    assert caught.value.fix == "fetch it again"


def test_a_warning_of_a_worker_is_told_by_the_driver(tmp_path: Path, caplog: pytest.LogCaptureFixture, pool) -> None:
    with caplog.at_level(logging.WARNING, logger="cpt_ray"):
        run_stage("stage", warn, TASKS[:1], context=context_in(tmp_path), num_workers=2, progress=None, pool=pool)
    assert "stage: law-00000 looks odd" in caplog.text


def test_processes_know_which_buckets_have_answered_the_driver(tmp_path: Path, monkeypatch, pool) -> None:
    monkeypatch.setattr(opening, "_answered", {"s3://answered"})
    with pytest.raises(DataError, match="s3://answered"):
        run_stage("stage", tell_answered, TASKS[:1], context=context_in(tmp_path), num_workers=2, progress=None, pool=pool)


def die_once(task: UnitTask, context: UnitContext) -> UnitReport:
    if task.unit == "law-00001" and not (context.root / "died").exists():
        (context.root / "died").touch()
        os._exit(9)
    return finish_unit(task, context, "stage", {})


def test_what_a_killed_process_of_the_pool_left_undone_is_run_again(tmp_path: Path, caplog) -> None:
    with process_pool(2) as pool, caplog.at_level(logging.WARNING, logger="cpt_ray"):
        reports = run_stage("stage", die_once, TASKS, context=context_in(tmp_path), num_workers=2, progress=None, pool=pool)
    assert [report.unit for report in reports] == [task.unit for task in TASKS]
    assert "stage: a process was killed; " in caplog.text


def test_a_unit_that_kills_its_process_every_time_is_said_with_what_to_lower(tmp_path: Path) -> None:
    with process_pool(1) as pool, pytest.raises(DataError, match="stage: processes that prepare units were killed 3") as caught:
        run_stage("stage", die, TASKS[:2], context=context_in(tmp_path), num_workers=1, progress=None, pool=pool)
    assert "lower runtime.prepare_workers or prepare.unit_bytes" in caught.value.fix
