"""The one place where differences, tolerances, predictions and options are judged: both sides of each rule."""

from __future__ import annotations

import pytest

from cpt_ray.compare.judgment import judge, predict, prefer, within
from cpt_ray.records import MEASURES, Delta, Estimated, Interval


def difference(value=-0.1, half=0.01, *, p_value=0.01, better=None, measure="bits_per_byte"):
    interval = Interval(low=value - half, high=value + half, confidence=0.95, kind="") if half else None
    return Delta(
        measure=measure, set_name="law", role="domain", subject="m", reference="base", subject_value=1 + value,
        reference_value=1.0, difference=value, interval=interval, p_value=p_value, adjusted_p_value=p_value,
        smallest_effect=None, relative_percent=None, items=20, better=better,
    )  # fmt: skip


def change(low, high):
    return Estimated(name="change", value=0.0, low=low, high=high)


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_has_its_own_direction(measure):
    fell, rose = (judge([difference(value, measure=measure)], 0.95)[0] for value in (-0.1, 0.1))
    assert fell.better is MEASURES[measure].lower_is_better
    assert rose.better is not MEASURES[measure].lower_is_better


def test_a_family_is_judged_together():
    alone = judge([difference(p_value=0.03)], 0.95)
    together = judge([difference(p_value=0.03), difference(p_value=0.5)], 0.95)
    assert alone[0].better is True
    assert (together[0].better, together[0].adjusted_p_value) == (None, pytest.approx(0.06))


def test_without_an_interval_nothing_is_judged():
    assert judge([difference(half=0, p_value=0.0)], 0.95)[0].better is None


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
