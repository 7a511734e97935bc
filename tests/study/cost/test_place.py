"""What a plan assumes of the hardware."""

from __future__ import annotations

import os

import psutil
import pytest

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import load_hardware, parse_price
from cpt_ray.records import Card
from cpt_ray.study.cost import place
from cpt_ray.study.cost.place import Choice, find_place, parse_workers_option

CPU = {"kind": "local", "device": "cpu"}


@pytest.mark.parametrize(("products", "name"), [("bf16", "cpu"), ("avx512", "cpu-avx512"), ("fp32", "cpu-fp32")])
def test_without_a_gpu_it_is_this_machine_s_cores_and_memory(monkeypatch, products, name):
    monkeypatch.setattr(place, "cpu_products", lambda: products)
    found = find_place(RuntimeConfig.model_validate(CPU))
    assert (found.hardware.name, found.device, found.workers, found.ray) == (name, "cpu", 1, False)
    assert (found.cores, found.room_bytes, found.card) == (float(os.cpu_count()), psutil.virtual_memory().total, None)


def test_workers_of_a_private_ray_share_the_memory_and_those_of_a_cluster_have_one_that_is_not_known(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    private = find_place(RuntimeConfig.model_validate({"workers": 2, "cpus_per_worker": 3}))
    assert (private.cores, private.ray, private.room_bytes) == (3.0, True, psutil.virtual_memory().total // 2)
    assert find_place(RuntimeConfig.model_validate({"workers": 2, "address": "ray://host"})).room_bytes is None


def test_named_hardware_stands_for_the_study_s_own_and_takes_the_price():
    choice = Choice(load_hardware("a100-80"), 4, parse_price("2", "EUR"))
    found = find_place(RuntimeConfig.model_validate(CPU), choice)
    assert (found.workers, found.place.on_gpu, found.hardware.price.currency) == (4, True, "EUR")
    assert found.card == Card("NVIDIA A100 SXM, 80 GB", found.room_bytes)
    assert load_hardware("a100-80").price is None


def test_a_gpu_of_which_only_the_memory_is_known_has_memory_and_no_pace():
    found = find_place(RuntimeConfig.model_validate({"gpus_per_worker": 1, "gpu_memory": "80GB"}))
    assert (found.hardware, found.room_bytes, found.place.on_gpu) == (None, 80_000_000_000, True)


def test_the_card_of_this_machine_has_its_profile(monkeypatch):
    monkeypatch.setattr(place, "planned_card", lambda _: Card("NVIDIA H100 80GB HBM3", 85_000_000_000))
    found = find_place(RuntimeConfig(kind="local"))
    assert (found.hardware.name, found.device, found.room_bytes) == ("h100", "NVIDIA H100 80GB HBM3", 85_000_000_000)


def test_groups_are_those_that_the_queue_would_start(monkeypatch):
    def groups(choice: Choice = place.AS_CONFIGURED, **runtime: object) -> int | None:
        return find_place(RuntimeConfig.model_validate(runtime), choice).groups

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(place, "joined", lambda: False)
    assert groups(kind="local") == 1
    # A private Ray without GPUs trains one run at a time unless it is told otherwise; with four cards two by two.
    assert groups(workers=2) == 1
    assert groups(workers=2, parallel_runs=3) == 3
    # The GPUs that it asks for are elsewhere.
    monkeypatch.setattr(place, "count_cards", lambda: 0)
    assert groups(workers=2, gpus_per_worker=1) is None
    assert groups(workers=2, gpus_per_worker=1, parallel_runs=4) == 4
    monkeypatch.setattr(place, "count_cards", lambda: 4)
    monkeypatch.setattr(place, "private_cpus", lambda runtime: 16)
    assert groups(workers=2, gpus_per_worker=1, gpu_memory="80GB") == 2
    # A cluster says what it has when it is joined; hardware that the command names has room for what the study asks for.
    assert groups(workers=2, address="ray://host") is None
    assert groups(workers=2, address="ray://host", parallel_runs=4) == 4
    assert groups(Choice(load_hardware("h100"), 8)) == 1
    assert groups(Choice(load_hardware("h100"), 8), parallel_runs=2) == 2


@pytest.mark.ray
def test_a_cluster_that_was_joined_is_asked_for_its_groups(ray_session_2cpu, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "joined")
    # Six CPUs: two groups of two workers, and two CPUs are left for other tasks.
    assert find_place(RuntimeConfig(workers=2)).groups == 2


@pytest.mark.parametrize("wrong", ["0", "-1", "2.5", "two", ""])
def test_workers_are_a_whole_number_from_one(wrong):
    with pytest.raises(ConfigError, match=f"--workers {wrong}: not a number of workers"):
        parse_workers_option(wrong)
    assert parse_workers_option("8") == 8
