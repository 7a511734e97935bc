"""Hardware by name."""

from __future__ import annotations

import pytest

from cpt_ray.cli.init.hardware import card_names, parse_hardware
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import PROFILES


@pytest.mark.parametrize(("text", "devices", "gigabytes"), [("h100", 1, 85.5), ("8xA100-40", 8, 42.4), ("2 x l4", 2, 24.2)])
def test_cards_have_their_memory(text, devices, gigabytes):
    found = parse_hardware(text)
    assert (found.devices, found.memory_bytes, found.is_gpu) == (devices, gigabytes * 10**9, True)


def test_every_card_that_a_plan_knows_is_known():
    assert {"l4", "a10g", "a100-40", "a100-80", "h100", "h200", "b200"} <= set(card_names())
    assert "cpu" not in card_names()


def test_the_cpu_of_this_machine_is_shared_by_its_workers():
    one, two = parse_hardware("cpu"), parse_hardware("2xcpu")
    assert not one.is_gpu
    assert two.devices == 2
    assert two.flops == one.flops / 2
    assert two.memory_bytes == one.memory_bytes // 2


def test_a_profile_of_ones_own_is_taken_from_its_file(tmp_path):
    card = tmp_path / "x card.yaml"
    card.write_text((PROFILES / "h100.yaml").read_text("utf-8"))
    assert parse_hardware(f"2x{card}") == parse_hardware("2xh100")
    card.write_text("\n".join(line for line in card.read_text("utf-8").splitlines() if not line.startswith("memory:")))
    with pytest.raises(ConfigError, match="missing key memory") as caught:
        parse_hardware(str(card))
    assert caught.value.fix == "add the memory of a card, such as memory: 80GB"


def test_a_core_of_ones_own_is_a_cpu_of_this_machine(tmp_path):
    core = tmp_path / "Core.yaml"
    core.write_text((PROFILES / "cpu-fp32.yaml").read_text("utf-8"))
    found = parse_hardware(str(core))
    assert (found.is_gpu, found.memory_bytes) == (False, parse_hardware("cpu").memory_bytes)


def test_here_is_whatever_this_machine_has():
    assert parse_hardware("here").devices == 1


@pytest.mark.parametrize("text", ["", "v100", "0xh100", "9999xh100", "0xcpu", "0xhere", "99999xcpu", "h100x8", "eight h100"])
def test_hardware_that_is_unknown_is_refused_with_what_is_known(text):
    with pytest.raises(ConfigError, match="is no hardware that is known here") as caught:
        parse_hardware(text)
    assert all(name in caught.value.fix for name in (*card_names(), "here", "cpu", "8xh100"))
