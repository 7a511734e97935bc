"""A worker's input: unchanged by a JSON round trip, and the paths that it derives."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_ray.errors import LeaseError
from cpt_ray.records import RunRecord
from cpt_ray.train.task import TrainTask, point_folder
from tests.train.tiny_run import make_task, spec_named, tiny_config


@pytest.fixture
def task(tmp_path) -> TrainTask:
    config = tiny_config(tmp_path, lora={"rank": 2, "alpha": 4})
    return make_task(tmp_path, config, spec_named(config, "legal-2000"), "run")


def test_it_travels_as_json_and_says_the_same(task):
    again = TrainTask.from_json(task.to_json())
    assert again == task
    assert again.settings.deepspeed.zero_stage == 2
    assert again.settings.train.lora == task.settings.train.lora is not None


def test_a_run_is_finished_when_its_record_is_there(task):
    assert not task.finished
    Path(task.run_folder).mkdir()
    assert not task.finished
    (Path(task.run_folder) / RunRecord.FILE).touch()
    assert task.finished


def test_a_superseded_driver_is_refused(task):
    task.require_lease()
    with pytest.raises(LeaseError, match="attempt 2 may no longer write"):
        task.model_copy(update={"lease_attempt": 2}).require_lease()


def test_each_mark_has_a_folder_of_its_own(task):
    assert point_folder(task.run_folder, 300) == Path(task.run_folder) / "trajectory" / "300"
