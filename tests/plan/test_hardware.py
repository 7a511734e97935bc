"""Hardware profiles: those of the package, own files, and everything that can be wrong with them."""

from __future__ import annotations

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import find_profile, load_hardware, parse_hardware, parse_price, profile_names

OWN = """
name: rented
description: a card of ours
peak_bf16_flops: 1.0e14
memory: 48GB
memory_bandwidth: 9.0e11
achieved_share: 0.5
achieved_source: measured by us
price: {per_hour: 1.25, currency: EUR, date: 2026-11-01}
"""


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_hardware(text, "own.yaml")
    return caught.value


def test_every_profile_is_whole_and_none_invents_a_price():
    assert profile_names() == ["a100-40", "a100-80", "a10g", "b200", "cpu", "cpu-avx512", "cpu-fp32", "h100", "h200", "l4"]
    for name in profile_names():
        profile = load_hardware(name)
        assert (profile.name, profile.price) == (name, None)
        assert profile.is_gpu is (not name.startswith("cpu"))
        assert profile.achieved_source


def test_an_own_file_is_a_profile_with_a_dated_price(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN)
    profile = load_hardware(str(tmp_path / "own.yaml"))
    assert (profile.memory, profile.price.currency, profile.price.date) == (48_000_000_000, "EUR", "2026-11-01")


@pytest.mark.parametrize(
    ("card", "name"),
    [("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA A100-SXM4-40GB", "a100-40"), ("NVIDIA A100-SXM4-80GB", "a100-80"),
     ("NVIDIA L4", "l4"), ("NVIDIA H200", "h200")],
)  # fmt: skip
def test_the_card_of_a_driver_has_its_profile(card, name):
    assert find_profile(card).name == name


def test_another_card_has_none():
    assert find_profile("NVIDIA GeForce RTX 4090") is None
    assert find_profile("NVIDIA L40S") is None


def test_unknown_hardware_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="--hardware h10O: there is no such profile; the nearest is h100") as caught:
        load_hardware("h10O")
    known = ", ".join(profile_names())
    assert caught.value.fix.startswith(f"use one of {known}, or the path")
    with pytest.raises(ConfigError, match="no such hardware profile") as caught:
        load_hardware("nowhere.yaml")
    assert "profiles/h100.yaml" in caught.value.fix


@pytest.mark.parametrize(
    ("change", "said", "fix"),
    [
        (
            ("achieved_share: 0.5", "achieved_share: 50"),
            "own.yaml: achieved_share: Input should be less than",
            "change achieved_",
        ),
        (("memory: 48GB", "memory: plenty"), "own.yaml: memory: expected a quantity such as 64MB", "change memory"),
        (("achieved_source: measured by us\n", ""), "own.yaml: missing key achieved_source", "add achieved_source"),
        (("memory_bandwidth", "memory_bandwith"), "own.yaml: unknown key memory_bandwith", "did you mean memory_bandwidth?"),
        (
            ("per_hour: 1.25", "per_hour: -1"),
            "own.yaml: price.per_hour: Input should be greater than 0, saw '-1'",
            "change price.",
        ),
        (
            ("2026-11-01", "last month"),
            "own.yaml: price.date: expected a date such as 2026-11-29, saw 'last",
            "change price.date",
        ),
        (("currency: EUR, ", ""), "own.yaml: missing key price.currency", "add price.currency"),
    ],
)
def test_a_malformed_profile_names_the_key(change, said, fix):
    found = refused(OWN.replace(*change))
    assert found.problem.startswith(said)
    assert found.fix.startswith(fix)


def test_what_is_no_mapping_is_refused():
    assert refused("- a\n- b\n").problem == "own.yaml: expected keys and values, as in a hardware profile"


def test_a_price_is_a_positive_number_of_today():
    price = parse_price("2.5", "USD")
    assert (price.per_hour, price.currency) == (2.5, "USD")
    for wrong in ("0", "cheap", "-1", "nan"):
        with pytest.raises(ConfigError, match=f"--price {wrong} --currency USD: not a price of an hour") as caught:
            parse_price(wrong, "USD")
        assert "such as --price 2.5 --currency USD" in caught.value.fix
