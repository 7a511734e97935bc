"""Impossible claims are refused, and claims within their spread of the target are not judged; with made-up timings."""

import re

import pytest

from benchmarks.measure.claims import POSITIVE, SHARE, Claim, Figure, beyond_start


def claim(value, **changes) -> Claim:
    return Claim(**{"id": "a", "claim": "b", "value": value, "unit": "c", "possible": POSITIVE, **changes})


@pytest.mark.parametrize(
    ("value", "target", "judgement"),
    [
        (1.0, "<= 1.0", "met"),
        (1.1, "<= 1.0", "missed"),
        (2, "> 2", "missed"),
        (2, ">= 2", "met"),
        (1, "< 2", "met"),
        (True, "== 1", "met"),
        (1, None, "no target"),
    ],
)
def test_a_target_is_judged(value, target, judgement):
    assert claim(value, target=target).judge() == judgement


@pytest.mark.parametrize(
    ("value", "possible"),
    [(0.0, POSITIVE), (-0.196, POSITIVE), (float("inf"), POSITIVE), (float("nan"), POSITIVE), (5.9, (0.0, 2.0)), (1.01, SHARE)],
)
def test_a_value_outside_its_range_is_an_error(value, possible):
    assert re.match(r"claim a: .* is impossible: not between", claim(value, possible=possible).problem())


def test_a_value_on_a_bound_that_it_can_reach_is_none():
    for possible in (claim(0.0, possible=SHARE), claim(1.0, possible=SHARE), claim("zero2", possible=None)):
        assert possible.problem() is None


def test_too_little_text_beyond_a_start_gives_no_judgement_and_says_how_much_is_needed():
    # Ray's start of 26 CPU seconds subtracted from 28 and 27: whatever the ratio, it is noise.
    ratio = beyond_start(28.0, 26.0) / beyond_start(27.0, 26.0)
    little = claim(ratio.value, spread=ratio.spread, target=">= 1.15", work=(4, "MB"))
    assert little.judge() == "not judged"
    assert little.need() == "4 MB is not enough: measure at least 40 MB"
    enough = beyond_start(426.0, 26.0) / beyond_start(186.0, 26.0)
    assert claim(enough.value, spread=enough.spread, target=">= 1.15", work=(500, "MB")).judge() == "met"


def test_work_that_took_less_than_its_start_cannot_be():
    speed = Figure(4.0) / beyond_start(24.0, 26.0)
    assert claim(speed.value, spread=speed.spread, work=(4, "MB")).problem().endswith("measure more of it")


def test_spreads_add_in_quadrature():
    assert (Figure(5.0, 3.0) - Figure(1.0, 4.0)) == Figure(4.0, 5.0)
    ratio = Figure(10.0, 0.3) / Figure(5.0, 0.2)
    assert ratio.value == 2
    assert ratio.spread == pytest.approx(2 * (0.03**2 + 0.04**2) ** 0.5)
