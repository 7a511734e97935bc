"""The `runtime` section: workers as a number or a range, and the bounds of each setting."""

import pytest
from pydantic import ValidationError

from cpt_ray.config.load import parse_study
from cpt_ray.config.sections import runtime as runtime_section
from cpt_ray.config.sections.runtime import RuntimeConfig, Workers, parse_workers
from tests.config.spoiled import refusal, spoil


@pytest.mark.parametrize("written", [2, {"min": 1, "max": 4}])
def test_workers_are_a_number_or_a_range_and_are_saved_as_they_were_written(tree, written):
    config = parse_study(spoil(tree, "runtime.workers", written), place="study.yaml")
    assert config.runtime.workers.elastic == isinstance(written, dict)
    assert config.model_dump(mode="json")["runtime"]["workers"] == written
    assert parse_study(config.model_dump(mode="json"), place="again") == config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("runtime.workers", {"min": 3, "max": 2}, "runtime.workers: min is 3, but max is 2; swap them"),
        ("runtime.workers", 0, "runtime.workers.min: Input should be greater than or equal to 1, saw 0"),
        ("runtime.parallel_runs", 0, "runtime.parallel_runs: expected auto or a number of at least 1, saw 0"),
        ("runtime.parallel_runs", "many", "runtime.parallel_runs: expected auto or a number of at least 1, saw 'many'"),
        ("runtime.prepare_workers", "all", "runtime.prepare_workers: expected auto or a number of at least 1, saw 'all'"),
        ("runtime.placement_strategy", "WIDE", "runtime.placement_strategy"),
        ("runtime.label_selector", {"zone": "a b"}, "runtime.label_selector: zone: 'a b' is no value of a label; write x, !x"),
        ("runtime.worker_resources", {"GPU": 1}, "runtime.worker_resources: GPU is set by runtime.gpus_per_worker; remove it"),
        ("runtime.worker_resources", {"a100": 0}, "runtime.worker_resources.a100: Input should be greater than 0"),
        ("runtime.evaluate_gpus", 0.5, "runtime: evaluate_gpus is 0.5, but gpus_per_worker is 0: models are scored"),
        ("runtime.workers", "many", "runtime.workers: expected a number of workers, or {min: 1, max: 8}, saw 'many'"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_with_what_can(tree, key, value, message):
    assert f"study.yaml: {message}" in refusal(spoil(tree, key, value))


def test_a_range_of_one_number_is_not_elastic():
    assert not Workers(min=2, max=2).elastic
    assert str(Workers(min=2, max=2)) == "2"
    assert str(Workers(min=1, max=8)) == "1 to 8"


@pytest.mark.parametrize("value", [True, 1.5, None, [1]])
def test_what_is_not_a_number_of_workers_is_refused_with_an_example(value):
    with pytest.raises(ValueError, match=r"expected a number of workers, or \{min: 1, max: 8\}, saw"):
        parse_workers(value)


def test_by_default_one_worker_trains_on_one_cpu_under_ray():
    runtime = RuntimeConfig()
    assert (runtime.kind, runtime.workers, runtime.cpus_per_worker, runtime.gpus_per_worker) == (
        "ray",
        Workers(min=1, max=1),
        1,
        0,
    )


@pytest.mark.parametrize(("device", "gpus", "works"), [("gpu", 0, "at least 1"), ("cpu", 1, "0")])
def test_with_ray_the_device_may_not_contradict_the_gpus_of_a_worker(device, gpus, works):
    problem = f"device is {device}, but kind is ray and gpus_per_worker is {gpus}; set it to {works}"
    with pytest.raises(ValidationError, match=problem):
        RuntimeConfig(device=device, gpus_per_worker=gpus)
    assert RuntimeConfig(device=device, gpus_per_worker=1 - gpus).wants_gpu is (device == "gpu")


def test_a_local_study_has_one_worker_whatever_the_file_says_for_a_cluster():
    runtime = RuntimeConfig(kind="local", workers={"min": 3, "max": 6})
    assert str(runtime.group) == "1"
    assert str(RuntimeConfig(workers=2).group) == "2"


def test_a_worker_occupies_its_cpus_gpus_and_custom_resources():
    assert RuntimeConfig().worker_demand == {"CPU": 1}
    runtime = RuntimeConfig(cpus_per_worker=4, gpus_per_worker=1, worker_resources={"a100": 1})
    assert runtime.worker_demand == {"CPU": 4, "GPU": 1, "a100": 1}
    assert (runtime.scoring_gpus, RuntimeConfig(gpus_per_worker=1, evaluate_gpus=0.25).scoring_gpus) == (1, 0.25)


def test_units_at_once_are_as_many_as_asked_for_or_as_there_are_cpus(monkeypatch):
    monkeypatch.setattr(runtime_section.os, "cpu_count", lambda: 8)
    assert (RuntimeConfig().units_at_once, RuntimeConfig(prepare_workers=5).units_at_once) == (2, 5)
    assert RuntimeConfig(kind="local", prepare_workers="auto").units_at_once == 8
    assert RuntimeConfig(prepare_workers="auto").units_at_once > 10_000  # Ray starts as many as there is room for
