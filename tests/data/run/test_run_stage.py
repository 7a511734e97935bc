"""A stage on Ray: finished work is not repeated, errors arrive unchanged, warnings are forwarded."""

import logging
from pathlib import Path

import pytest

from cpt_ray.data.run.run_stage import run_stage
from cpt_ray.data.run.units import UnitContext, UnitTask, finish_unit
from cpt_ray.errors import DataError
from cpt_ray.records import UnitFacts, UnitReport
from tests.data.conftest import settings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session_2cpu")]
TASKS = [UnitTask(unit=f"law-{number:05d}", source="law") for number in range(5)]


def context_in(folder: Path) -> UnitContext:
    return UnitContext(folder=str(folder), sources=(), prepare=settings())


def counted(number: int):
    """Work that reports `number` for its unit; defined locally so that Ray serializes it."""

    def work(task: UnitTask, context: UnitContext) -> UnitReport:
        return finish_unit(task, context, "stage", {}, UnitFacts(counts={"number": number}))

    return work


def test_reports_come_in_the_order_of_the_tasks_and_finished_units_are_kept(tmp_path: Path) -> None:
    context, heard = context_in(tmp_path), []
    for task in TASKS[1:3]:
        counted(1)(task, context)
    reports = run_stage("stage", counted(2), TASKS, context=context, num_workers=2, progress=lambda *told: heard.append(told))
    assert [report.unit for report in reports] == [task.unit for task in TASKS]
    assert [report.counts["number"] for report in reports] == [2, 1, 1, 2, 2]
    assert heard == [("stage", done, 5) for done in (2, 3, 4, 5)]
    assert not list((tmp_path / "units").glob(".stage-*"))  # where the workers met


def test_an_error_comes_back_as_it_was_raised(tmp_path: Path) -> None:
    def work(task: UnitTask, context: UnitContext) -> UnitReport:
        raise DataError(f"{task.unit}: spoiled", fix="fetch it again")

    with pytest.raises(DataError, match="law-00000: spoiled") as caught:
        run_stage("stage", work, TASKS[:1], context=context_in(tmp_path), num_workers=2, progress=None)
    assert caught.value.fix == "fetch it again"


def test_a_warning_of_a_worker_is_told_by_the_driver(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def work(task: UnitTask, context: UnitContext) -> UnitReport:
        logging.getLogger("cpt_ray.anything").warning("%s looks odd", task.unit)
        return finish_unit(task, context, "stage", {})

    with caplog.at_level(logging.WARNING, logger="cpt_ray"):
        run_stage("stage", work, TASKS[:1], context=context_in(tmp_path), num_workers=2, progress=None)
    assert "stage: law-00000 looks odd" in caplog.text
