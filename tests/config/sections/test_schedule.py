"""The learning-rate sections: a rate is a number or a name, and a chain has no defaults."""

import pytest

from cpt_ray.config.sections.schedule import ChainConfig, ScheduleConfig, parse_rate
from tests.config.spoiled import refusal, spoil


@pytest.mark.parametrize(("written", "rate"), [(1e-4, 1e-4), ("3e-4", 3e-4), (1, 1.0), ("base_peak", "base_peak")])
def test_a_rate_is_a_number_or_the_name_of_a_rate_of_the_base(written, rate):
    assert parse_rate(written) == rate


@pytest.mark.parametrize("written", [0, -1, True, None, "fast", "nan", float("inf")])
def test_any_other_rate_is_refused(written):
    with pytest.raises(ValueError, match="expected a number above 0, base_peak or base_final, saw"):
        parse_rate(written)


def test_by_default_the_rate_is_constant_and_cools_down_over_a_fifth():
    schedule = ScheduleConfig()
    assert (schedule.shape, schedule.warmup, schedule.cooldown_share, schedule.cooldown_shape, schedule.final_share) == (
        "constant_cooldown",
        None,
        0.2,
        "1-sqrt",
        0.0,
    )


def test_no_key_of_a_chain_has_a_default():
    assert all(field.is_required() for field in ChainConfig.model_fields.values())


@pytest.mark.parametrize(
    ("key", "value"), [("cooldown_share", 0), ("cooldown_share", 1.1), ("final_share", 1), ("warmup", -1), ("shape", "step")]
)
def test_a_wrong_schedule_is_refused_by_key(tree, key, value):
    assert f"study.yaml: train.schedule.{key}: Input should be" in refusal(spoil(tree, "train.schedule", {key: value}))
