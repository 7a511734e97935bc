"""The `train.guards` and `train.watch` sections: switches, defaults and bounds."""

import pytest

from cpt_ray.config.load import parse_study
from tests.config.spoiled import refusal, spoil


def test_by_default_the_first_step_that_is_not_finite_stops_and_a_spike_only_warns(tree):
    guards = parse_study(tree, place="study.yaml").train.guards
    assert (guards.max_skipped_steps, guards.on_spike) == (0, "warn")


def test_zero_turns_held_out_losses_off_but_memory_is_always_measured(tree):
    assert parse_study(spoil(tree, "train.watch", {"held_out_every": 0}), place="study.yaml").train.watch.held_out_every == 0
    assert "train.watch.memory_every: Input should be greater than or equal to 1, saw 0" in refusal(
        spoil(tree, "train.watch", {"memory_every": 0})
    )


@pytest.mark.parametrize(
    ("key", "value"), [("spike_window", 9), ("spike_sigmas", 0), ("max_skipped_steps", -1), ("on_spike", "panic")]
)
def test_a_wrong_guard_is_refused_by_key(tree, key, value):
    assert f"study.yaml: train.guards.{key}: Input should be" in refusal(spoil(tree, "train.guards", {key: value}))


def test_a_duration_is_written_with_its_unit(tree):
    assert parse_study(spoil(tree, "train.watch", {"hang_report": "2m"}), place="study.yaml").train.watch.hang_report == 120
