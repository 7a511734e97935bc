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


@pytest.mark.parametrize(("has_bf16", "name"), [(True, "cpu"), (False, "cpu-fp32")])
def test_without_a_gpu_it_is_this_machine_s_cores_and_memory(monkeypatch, has_bf16, name):
    monkeypatch.setattr(place, "cpu_has_bf16", lambda: has_bf16)
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


@pytest.mark.parametrize("wrong", ["0", "-1", "2.5", "two", ""])
def test_workers_are_a_whole_number_from_one(wrong):
    with pytest.raises(ConfigError, match=f"--workers {wrong}: not a number of workers"):
        parse_workers_option(wrong)
    assert parse_workers_option("8") == 8
