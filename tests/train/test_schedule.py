"""The learning rate against hand-worked values."""

from __future__ import annotations

import pytest

from cpt_ray.config.schedule import ScheduleConfig
from cpt_ray.records import RunSpec
from cpt_ray.train.schedule import learning_rate


def spec(stop: int, cooldown: int | None) -> RunSpec:
    return RunSpec(
        name="r", kind="trunk" if cooldown is None else "cooldown", model="m", arm="a", seed=0, budget_tokens=stop,
        parent=None, start_tokens=0, stop_tokens=stop, cooldown_start_tokens=cooldown,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (0, 0.0),
        (50, 0.5),
        (100, 1.0),
        (799, 1.0),
        (800, 1.0),
        (850, 0.5),
        (872, 0.4),
        (950, 1 - 0.75**0.5),
        (1000, 0.0),
        (1100, 0.0),
    ],
)
def test_one_minus_sqrt_table(tokens, expected):
    schedule = ScheduleConfig(warmup=100, cooldown_share=0.2)
    assert learning_rate(tokens, peak=1.0, schedule=schedule, spec=spec(1000, 800)) == pytest.approx(expected)


@pytest.mark.parametrize(("tokens", "expected"), [(800, 2.0), (900, 1.1), (1000, 0.2)])
def test_linear_cooldown_ends_at_the_final_share(tokens, expected):
    schedule = ScheduleConfig(cooldown_shape="linear", final_share=0.1)
    assert learning_rate(tokens, peak=2.0, schedule=schedule, spec=spec(1000, 800)) == pytest.approx(expected)


def test_a_trunk_never_cools_down():
    assert learning_rate(10**9, peak=3e-4, schedule=ScheduleConfig(), spec=spec(1000, None)) == 3e-4
