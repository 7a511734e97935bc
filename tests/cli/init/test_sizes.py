"""Sizes by hand-worked cases, and what cannot work."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cpt_ray.cli.init.bases import Base
from cpt_ray.cli.init.hardware import Hardware, parse_hardware
from cpt_ray.cli.init.sizes import Amounts, size_study
from cpt_ray.config.values import parse_count
from cpt_ray.errors import ConfigError

LAPTOP = Hardware("CPU", 1, 12 * 10**9, 2e11, is_gpu=False)
PLENTY = Amounts(domain_tokens=1e12, general_tokens=1e12, documents=10_000, replay=0.05, runs=2.1)


def base(parameters: float, context: int | None = None) -> Base:
    return Base("base", "base", parameters, context, None, "")


def sized(hardware: Hardware | str = LAPTOP, parameters: float = 135e6, amounts: Amounts = PLENTY, **spend):
    there = parse_hardware(hardware) if isinstance(hardware, str) else hardware
    return size_study(there, [base(parameters)], amounts, budget=spend.get("budget"), hours=spend.get("hours"), first_share=0.5)


def test_hours_become_tokens_by_the_rate_that_is_written_beside_them():
    # 2e11 FLOP/s / (6 x 135M x 2.1) = 117.6 tokens/s; 0.7 of an hour is 2520 s: 296k tokens; a fifth scores.
    found = sized(hours=1)
    assert found.budget == 290_000
    assert "118 tokens of the largest budget a second on CPU, 12 GB" in found.why["budget"]
    assert found.hours == pytest.approx(1.0)
    assert sized(budget=290_000).budget == 290_000


def test_as_many_documents_are_scored_as_a_fifth_of_the_hours_pays_for_and_never_too_few_for_an_interval():
    # 2 x 135M x 512 tokens x 4 models x 4 sets / 2e11 FLOP/s = 11.06 s a document.
    hour, quarter = sized(hours=1), sized(hours=0.25)
    assert hour.held_out_documents == 65  # 720 s
    # 32 of them take 354 s, more than a fifth; 0.9 of the quarter of an hour less that is 456 s: 53.6k tokens.
    assert (quarter.held_out_documents, quarter.budget) == (32, 53_000)
    assert quarter.hours == pytest.approx(0.25)
    assert (sized(budget=25_000).held_out_documents, sized("h100", hours=1).held_out_documents) == (32, 500)
    assert "6 min of scoring" in quarter.why["budget"]


def test_a_lost_machine_costs_minutes_or_a_quarter_of_a_run_and_never_more_than_fifty_million_tokens():
    assert sized(budget=25_000).checkpoint_every == 74_074  # 2e11 FLOP/s / (6 x 135M) for 300 s: more than the budget
    assert sized(budget=10**6).checkpoint_every == 250_000
    assert sized("8xh100", 1.5e9, budget=10**10).checkpoint_every == 50_000_000


@pytest.mark.parametrize(("parameters", "rate"), [(135e6, 2e-4), (1.5e9, 6e-5), (7e9, 3e-5), (14e9, 2e-5), (1e5, 1e-3)])
def test_learning_rates_are_those_of_the_studies_in_configs(parameters, rate):
    hardware = parse_hardware("8xb200")
    assert sized(hardware, parameters, hours=24 * 7).learning_rate == rate


def test_several_sizes_get_a_factor_each():
    bases = [replace(base(1.5e9), name="a"), replace(base(7e9), name="b")]
    found = size_study(parse_hardware("8xh100"), bases, PLENTY, budget=10**9, hours=None, first_share=0.5)
    assert found.learning_rate == 3e-5
    assert found.factors == (2.0, 1.0)


@pytest.mark.parametrize(
    ("hardware", "parameters", "file", "lora"),
    [
        ("h100", 135e6, "zero1_bf16.json", False),
        ("8xh100", 7e9, "zero1_bf16.json", False),  # 6 x 7 + 12 x 7 / 8 = 52.5 of 56 GB
        ("8xh100", 10e9, "zero2_bf16.json", False),  # 60 + 15 is too much; 2 x 10 + 16 x 10 / 8 = 40 of 56 GB
        ("4xa100-40", 7e9, "zero3_bf16_offload_cpu.json", False),  # 18 x 7 / 4 = 31.5 of 28 GB
        ("8xa100-40", 8e9, "zero3_bf16.json", False),  # 2 x 8 + 16 = 32 of 28 GB; 18
        ("l4", 7e9, "zero3_bf16_offload_cpu.json", False),  # 14 of 16.8 GB
    ],
)
def test_the_first_way_to_split_states_that_fits_is_taken(hardware, parameters, file, lora):
    found = sized(hardware, parameters, budget=10**8)
    assert (found.deepspeed, found.lora) == (file, lora)


def test_on_a_cpu_a_large_model_trains_adapters_and_a_larger_one_is_refused():
    assert sized(parameters=2e9, budget=10**5).lora
    with pytest.raises(
        ConfigError, match=r"base with 70B parameters does not fit on CPU, 12 GB, not even as adapters"
    ) as caught:
        sized(parameters=70e9, budget=10**5)
    assert caught.value.fix == "give devices with 1800 GB, more of them (--hardware 8xh100), or a smaller base"


def test_rows_and_batch_follow_budget_device_and_base():
    small, large = sized(hours=1), sized("8xh100", 1.5e9, budget=10**10)
    assert (small.sequence_length, small.global_batch_size) == (512, 4)
    assert (large.sequence_length, large.global_batch_size) == (2048, 256)
    assert large.gradient_checkpointing
    bases = [base(1e6, context=256)]
    assert size_study(LAPTOP, bases, PLENTY, budget=10**6, hours=None, first_share=0.5).sequence_length == 256
    assert sized("6xh100", 1.5e9, budget=10**10).global_batch_size % 6 == 0


def test_little_text_is_repeated_up_to_four_times_and_then_limits_the_budget():
    half = replace(PLENTY, domain_tokens=300_000)
    found = sized(amounts=half, hours=1)
    assert (found.max_epochs, found.budget) == (4.0, 290_000)
    tiny = replace(PLENTY, domain_tokens=50_000)
    found = sized(amounts=tiny, hours=1)
    assert found.budget == 120_000  # 50k x 0.6 x 4 / 0.95
    assert "the hours would allow 296k, but the domain text" in found.why["capped"]
    with pytest.raises(ConfigError, match=r"a budget of 1M tokens is 32 epochs over the domain text") as caught:
        sized(amounts=tiny, budget=10**6)
    assert caught.value.fix == "give --budget 120k, or more text"
    with pytest.raises(ConfigError, match="over the general text") as caught:
        sized(amounts=replace(PLENTY, general_tokens=1000), hours=1)
    assert caught.value.fix == "give about 11 times as much text: 24.6k tokens is the least"


@pytest.mark.parametrize("devices", [1, 3, 8, 24])
@pytest.mark.parametrize("first_share", [0.4, 0.5])
def test_what_is_said_to_be_enough_is_enough(devices, first_share):
    many, one = replace(LAPTOP, devices=devices), [base(135e6)]
    with pytest.raises(ConfigError, match="is too little") as caught:
        size_study(many, one, PLENTY, budget=None, hours=1e-9, first_share=first_share)
    minutes, budget = re.findall(r"--hours (\d+)min or --budget (\S+),", caught.value.fix)[0]
    assert size_study(many, one, PLENTY, budget=parse_count(budget), hours=None, first_share=first_share).budget
    assert size_study(many, one, PLENTY, budget=None, hours=int(minutes) / 60, first_share=first_share).budget


def test_too_little_time_is_refused_with_what_is_enough():
    with pytest.raises(ConfigError, match=r"--hours 0\.01 is too little: the largest budget of an arm is 0 tokens") as caught:
        sized(hours=0.01)
    # 24.6k tokens take 209 s and 32 documents 354 s: nine tenths of 10.4 minutes.
    assert caught.value.fix.startswith("give --hours 11min or --budget 24.6k, a smaller base, or faster")
    assert (sized(hours=11 / 60).budget, sized(budget=24_600).budget) == (28_000, 24_000)
