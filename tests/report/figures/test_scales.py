"""Axes: where values lie, and which are labeled."""

import pytest

from cpt_ray.report.figures.scales import Axis, make_scale, wants_log


def test_a_log_axis_needs_three_budgets_over_more_than_a_factor_of_eight():
    assert wants_log((0, 1, 4, 9))
    assert not wants_log((0, 1, 4, 8))
    assert not wants_log((0, 1, 100))


@pytest.mark.parametrize("kind", ["linear", "log", "tokens"])
@pytest.mark.parametrize("values", [(0.5, 2.0, 90.0), (3.0,), (), (1e3, 1e6, 1e9), (2.0, 2.0, 2.0)])
def test_every_value_and_every_label_lies_on_the_axis_in_order(kind, values):
    scale = make_scale(Axis("x", kind), values)
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in (*places, *map(scale.place, scale.ticks)))
    assert 1 <= len(scale.ticks) <= 9


def test_what_is_not_finite_changes_nothing():
    axis = Axis("x")
    assert make_scale(axis, (1.0, 2.0, float("nan"), float("inf"))).ticks == make_scale(axis, (1.0, 2.0)).ticks


def test_an_axis_of_tokens_begins_at_0_and_a_gap_stands_before_the_first_budget():
    scale = make_scale(Axis("tokens", "tokens"), (0, 10, 100, 1000))
    assert scale.place(0) == 0
    assert scale.place(5) < scale.place(10) < scale.place(100)
    assert scale.ticks == (0.0, 10, 100, 1000)


def test_bases_alone_have_one_label_of_tokens():
    scale = make_scale(Axis("", "tokens"), [0.0, 0.0])
    assert (scale.ticks, scale.place(0.0)) == ((0.0,), 0.0)
