"""The kill schedule is drawn from its seed and kills each kind about equally often."""

from collections import Counter

from tests.chaos.schedule import draw_schedule


def test_the_same_seed_draws_the_same_kills_and_another_one_others():
    first, again, other = (draw_schedule(seed, kills=20, most_steps=30, most_seconds=20) for seed in (7, 7, 8))
    assert first == again != other


def test_twenty_kills_spare_nobody_and_hit_training_as_well_as_recovery():
    kills = draw_schedule(7, kills=20, most_steps=30, most_seconds=20)
    assert Counter(kill.victim for kill in kills) == {"worker": 7, "raylet": 7, "driver": 6}
    assert Counter(kill.steps is None for kill in kills) == {False: 15, True: 5}
    assert {0 < kill.steps <= 30 for kill in kills if kill.steps is not None} == {True}
