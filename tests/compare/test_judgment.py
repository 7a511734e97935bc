"""The one place where differences, tolerances, predictions and options are judged: both sides of each rule."""

from __future__ import annotations

import numpy as np
import pytest

from cpt_ray.compare.judgment import judge, predict, prefer, within
from cpt_ray.evaluate.intervals import estimate, generator
from cpt_ray.records import MEASURES, Delta, Estimated, Interval


def difference(value=-0.1, half=0.01, *, p_value=0.01, better=None, measure="bits_per_byte"):
    interval = Interval(low=value - half, high=value + half, confidence=0.95, kind="") if half else None
    return Delta(
        measure=measure, set_name="law", role="domain", subject="m", reference="base", subject_value=1 + value,
        reference_value=1.0, difference=value, interval=interval, p_value=p_value, adjusted_p_value=p_value,
        smallest_effect=None, relative_percent=None, items=20, better=better,
    )  # fmt: skip


def judge_one(delta, *others):
    """Judge differences together whose units say nothing of the smallest effect."""
    none = estimate(np.zeros((1, 20)), np.ones(20), samples=10, random=generator(0, ""))
    return judge([(one, none) for one in (delta, *others)], 0.95)


def change(low, high):
    return Estimated(name="change", value=0.0, low=low, high=high)


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_has_its_own_direction(measure):
    fell, rose = (judge_one(difference(value, measure=measure))[0] for value in (-0.1, 0.1))
    assert fell.better is MEASURES[measure].lower_is_better
    assert rose.better is not MEASURES[measure].lower_is_better


def test_a_family_is_judged_together():
    alone = judge_one(difference(p_value=0.03))
    together = judge_one(difference(p_value=0.03), difference(p_value=0.5))
    assert alone[0].better is True
    assert (together[0].better, together[0].adjusted_p_value) == (None, pytest.approx(0.06))


def test_what_would_be_measurable_alone_is_not_settled_among_others():
    alone = judge_one(difference(p_value=0.03))[0]
    together = judge_one(difference(p_value=0.03), difference(0.0, p_value=0.9))
    assert (alone.better, alone.unsettled) == (True, False)
    assert [one.better for one in together] == [None, None]
    assert [one.unsettled for one in together] == [True, False]
    assert not judge_one(difference(half=0, p_value=0.0))[0].unsettled


def test_what_is_not_measurable_is_smaller_than_the_smallest_measurable_difference():
    random = np.random.default_rng(0)
    undecided = 0
    for _ in range(200):
        family = []
        for effect in (0.0, 0.4, 0.5, 0.0):
            found = estimate(random.normal(effect, 1, (random.integers(1, 4), 30)), np.ones(30), samples=400, random=random)
            delta = difference(found.value, p_value=found.p_value())
            family.append((delta.model_copy(update={"interval": found.interval(0.95, "")}), found))
        for one in judge(family, 0.95):
            assert one.smallest_effect is not None
            undecided += one.unsettled
            assert one.better is not None or abs(one.difference) < one.smallest_effect
    assert undecided > 20


def test_without_an_interval_nothing_is_judged():
    assert judge_one(difference(half=0, p_value=0.0))[0].better is None


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (difference(0.005, 0.004), True),
        (difference(0.05, 0.01, better=False), False),
        (difference(0.05, 0.01, better=None), None),
        (difference(0.02, 0.01, better=False), None),
        (difference(0.05, 0), None),
        (None, None),
    ],
)
def test_a_tolerance_is_kept_exceeded_or_neither(delta, expected):
    assert within(delta, 0.02) is expected


@pytest.mark.parametrize(
    ("predicted", "measured", "better", "why"),
    [
        (change(-0.2, -0.1), difference(better=True), True, ""),
        (change(0.1, 0.2), difference(0.1, better=False), False, ""),
        (change(-0.2, None), difference(better=True), None, "the interval holds zero"),
        (change(None, -0.1), difference(better=True), True, ""),
        (change(-0.2, -0.1), difference(better=None), None, "does not measurably differ from the base"),
        (change(-0.2, -0.1), difference(0.1, better=False), None, "in the other direction"),
        (change(-0.2, -0.1), difference(half=0), None, "could not be judged"),
        (change(-0.2, -0.1), None, None, "could not be judged"),
    ],
)
def test_a_prediction_is_judged_by_its_interval_and_by_what_was_measured(predicted, measured, better, why):
    found, said = predict(predicted, measured)
    assert found is better
    assert why in said
    assert (said == "") is (better is not None)


@pytest.mark.parametrize(
    ("against", "expected"), [(change(-0.2, -0.1), True), (change(0.1, 0.2), False), (change(-0.1, 0.1), None), (None, None)]
)
def test_an_option_is_better_only_where_its_interval_is_below_zero(against, expected):
    assert prefer(against) is expected
