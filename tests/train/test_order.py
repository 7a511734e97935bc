"""The order of samples is a permutation with exact proportions, and a function of the position."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_ray.train.order import PERIOD, Bijection, SampleOrder, quotas


@given(size=st.integers(1, 3000), seed=st.text(max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_bijection_visits_every_value_once(size, seed):
    bijection = Bijection(size, seed)
    assert sorted(bijection(i) for i in range(size)) == list(range(size))


def test_another_seed_is_another_permutation():
    first, second = Bijection(1000, "0/law/0"), Bijection(1000, "1/law/0")
    same = sum(first(i) == second(i) for i in range(1000))
    assert same < 10


def test_a_bijection_does_not_keep_neighbours_together():
    bijection = Bijection(4096, "x")
    steps = Counter((bijection(i + 1) - bijection(i)) % 4096 for i in range(4095))
    assert steps.most_common(1)[0][1] < 12  # a linear congruence has one step size only


def test_a_bijection_refuses_values_outside():
    with pytest.raises(ValueError, match=r"7 is outside range\(7\)"):
        Bijection(7, "x")(7)


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        ({"a": 1.0}, {"a": 10000}),
        ({"a": 0.9, "b": 0.1}, {"a": 9000, "b": 1000}),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, {"a": 3334, "b": 3333, "c": 3333}),
        ({"a": 0.99999, "b": 0.00001}, {"a": 9999, "b": 1}),
        ({"a": 1.0, "b": 0.0}, {"a": 10000}),
    ],
)
def test_quotas_add_up_exactly(mix, expected):
    assert quotas(mix) == expected


def test_proportions_are_exact_over_a_period_and_close_in_between():
    order = SampleOrder({"law": 0.7, "news": 0.25, "code": 0.05}, {"law": 501, "news": 77, "code": 9}, seed=3)
    ids = order.batch(5 * PERIOD, PERIOD)
    assert Counter(i.source for i in ids) == {"law": 7000, "news": 2500, "code": 500}
    for length in (10, 100, 1000):
        share = sum(i.source == "law" for i in ids[:length]) / length
        assert abs(share - 0.7) <= 1.5 / length


def test_each_row_comes_once_per_epoch_and_epochs_differ():
    order = SampleOrder({"law": 0.5, "news": 0.5}, {"law": 100, "news": 30}, seed=0)
    law = [i.row for i in order.batch(0, 400) if i.source == "law"]
    assert sorted(law[:100]) == list(range(100))
    assert sorted(law[100:200]) == list(range(100))
    assert law[:100] != law[100:200]


def test_a_position_is_reached_without_history():
    order = SampleOrder({"law": 0.9, "news": 0.1}, {"law": 1234, "news": 56}, seed=1)
    again = SampleOrder({"law": 0.9, "news": 0.1}, {"law": 1234, "news": 56}, seed=1)
    assert order.batch(0, 50)[37:] == again.batch(37, 13)
    assert again.at(10**12) == order.at(10**12)


def test_drawn_counts_agree_with_the_rows_themselves():
    order = SampleOrder({"law": 0.9, "news": 0.1}, {"law": 1234, "news": 56}, seed=1)
    assert order.drawn(12345) == dict(Counter(i.source for i in order.batch(0, 12345)))
