"""The order of samples is a permutation with exact proportions, and a function of the position."""

from __future__ import annotations

import doctest
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cpt_ray.train.order import samples as order_module
from cpt_ray.train.order.samples import PERIOD, Bijection, MixAt, SampleOrder, quotas

NAMES = ("law", "news", "code", "maths", "talk")
MIXES = st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=5).map(
    lambda weights: {name: w / sum(weights) for name, w in zip(NAMES, weights, strict=False)}
)
ROWS = st.fixed_dictionaries({name: st.integers(1, 400) for name in NAMES})
WINDOWS = st.none() | st.integers(1, 90)


@st.composite
def orders(draw: st.DrawFn) -> SampleOrder:
    starts = [0, *sorted(draw(st.lists(st.integers(0, 2500), max_size=2)))]
    mixes = [MixAt(start, draw(MIXES)) for start in starts]
    return SampleOrder(mixes, draw(ROWS), draw(st.integers(0, 3)), window_rows=draw(WINDOWS))


def one_mix(mix: dict[str, float], rows: dict[str, int], seed: int = 0, window_rows: int | None = None) -> SampleOrder:
    return SampleOrder([MixAt(0, mix)], rows, seed, window_rows=window_rows)


@given(size=st.integers(1, 3000), seed=st.text(max_size=8))
@example(size=1, seed="")
@example(size=2, seed="")
@settings(max_examples=25, deadline=None)
def test_a_bijection_visits_every_value_once(size, seed):
    images = Bijection(size, seed).images(np.arange(size))
    assert np.sort(images).tolist() == list(range(size))


@given(size=st.integers(1, 2**40), seed=st.text(max_size=4), data=st.data())
@settings(max_examples=25, deadline=None)
def test_many_values_at_once_have_the_images_of_each_alone(size, seed, data):
    bijection = Bijection(size, seed)
    values = data.draw(st.lists(st.integers(0, size - 1), max_size=60))
    assert bijection.images(np.array(values, dtype=np.int64)).tolist() == [bijection(value) for value in values]


def test_the_permutation_of_a_seed_is_what_it_always_was():
    # A different network is a different experiment: a change to it requires raising the format of `train` in study/store.py.
    assert [Bijection(1000, "0/law/0")(i) for i in range(6)] == [158, 703, 538, 73, 885, 126]


def test_another_seed_is_another_permutation():
    values = np.arange(1000)
    same = (Bijection(1000, "0/law/0").images(values) == Bijection(1000, "1/law/0").images(values)).sum()
    assert same < 10


@pytest.mark.parametrize("size", [4096, 3000, 8192])
def test_a_bijection_does_not_keep_neighbors_together(size):
    images = Bijection(size, "x").images(np.arange(size))
    steps = Counter((np.diff(images) % size).tolist())
    assert steps.most_common(1)[0][1] < 12  # a linear congruence has one step size only
    rank = np.corrcoef(np.arange(size), images)[0, 1]
    assert abs(rank) < 5 / size**0.5


@pytest.mark.parametrize("value", [7, -1])
def test_a_bijection_refuses_values_outside(value):
    with pytest.raises(ValueError, match=rf"{value} is outside range\(7\)"):
        Bijection(7, "x")(value)
    with pytest.raises(ValueError, match=rf"{value} is outside range\(7\)"):
        Bijection(7, "x").images(np.array([3, value]))
    with pytest.raises(ValueError, match="cannot permute 0 values"):
        Bijection(0, "x")


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        ({"a": 1.0}, {"a": 10000}),
        ({"a": 0.9, "b": 0.1}, {"a": 9000, "b": 1000}),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, {"a": 3334, "b": 3333, "c": 3333}),
        ({"a": 0.99999, "b": 0.00001}, {"a": 9999, "b": 1}),
        ({"a": 1.0, "b": 0.0}, {"a": 10000}),
        ({"a": 0.9999, "b": 0.00005, "c": 0.00005}, {"a": 9998, "b": 1, "c": 1}),
    ],
)
def test_quotas_add_up_exactly(mix, expected):
    assert quotas(mix) == expected


@given(weights=st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_no_weight_is_rounded_away_and_none_moves_far(weights):
    mix = {str(i): weight / sum(weights) for i, weight in enumerate(weights)}
    parts = quotas(mix)
    assert sum(parts.values()) == PERIOD
    assert min(parts.values()) >= 1
    # A weight under one part is rounded up to it, and the largest sources pay for that.
    assert all(-len(mix) - 1 < parts[name] - mix[name] * PERIOD < 1 + 1e-6 for name in mix)


@given(mix=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_no_source_is_ever_a_whole_row_away_from_its_share(mix):
    assert worst_error(quotas({str(i): weight / sum(mix) for i, weight in enumerate(mix)})) < 1


def test_to_take_the_source_furthest_behind_would_put_one_a_whole_row_off(monkeypatch):
    parts = {"a": 10, "b": 10, "c": 10, "d": 3323, "e": 3323, "f": 3324}
    assert worst_error(parts) < 1
    monkeypatch.setattr(order_module, "_quota_table", furthest_behind_first)
    assert worst_error(parts) > 1.1


def worst_error(parts: dict[str, int]) -> float:
    table, ordinal = order_module._quota_table(tuple(parts.values()))
    counts = np.cumsum(table[:, None] == np.arange(len(parts)), axis=0)
    assert (ordinal == counts[np.arange(PERIOD), table] - 1).all()
    shares = np.array(list(parts.values())) * np.arange(1, PERIOD + 1)[:, None]
    return float(np.abs(counts * PERIOD - shares).max() / PERIOD)


def furthest_behind_first(parts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    share, count = np.array(parts), np.zeros(len(parts), dtype=np.int64)
    table, ordinal = np.empty(PERIOD, dtype=np.int64), np.empty(PERIOD, dtype=np.int64)
    for slot in range(PERIOD):
        choice = int((share * (slot + 1) - count * PERIOD).argmax())
        table[slot], ordinal[slot] = choice, count[choice]
        count[choice] += 1
    return table, ordinal


def test_proportions_are_exact_over_a_period():
    order = one_mix({"law": 0.7, "news": 0.25, "code": 0.05}, {"law": 501, "news": 77, "code": 9}, seed=3)
    ids = order.batch(5 * PERIOD, PERIOD)
    assert Counter(i.source for i in ids) == {"law": 7000, "news": 2500, "code": 500}


def test_each_row_comes_once_per_epoch_and_epochs_differ():
    order = one_mix({"law": 0.5, "news": 0.5}, {"law": 100, "news": 30})
    law = [i.row for i in order.batch(0, 400) if i.source == "law"]
    assert sorted(law[:100]) == list(range(100))
    assert sorted(law[100:200]) == list(range(100))
    assert law[:100] != law[100:200]
    assert order.epochs(400) == {"law": 2.0, "news": pytest.approx(200 / 30)}


@given(order=orders(), length=st.integers(1, 1500))
@settings(max_examples=25, deadline=None)
def test_draws_of_a_source_are_a_prefix_of_one_sequence_whatever_mixtures_drew_them(order, length):
    ids = order.batch(0, length)
    assert order.drawn(length) == {name: sum(i.source == name for i in ids) for name in order.sources}
    for number, name in enumerate(order.sources):
        rows = [i.row for i in ids if i.source == name]
        alone = one_mix({name: 1.0}, {name: int(order._rows[number])}, order._seed, order._window)
        assert rows == [i.row for i in alone.batch(0, len(rows))]


@given(order=orders(), start=st.integers(0, 10**12), size=st.integers(0, 70))
@settings(max_examples=25, deadline=None)
def test_a_batch_is_its_positions_one_by_one(order, start, size):
    assert order.batch(start, size) == [order.at(start + i) for i in range(size)]


@given(order=orders(), positions=st.lists(st.integers(0, 5000), max_size=5), size=st.integers(1, 64))
@settings(max_examples=25, deadline=None)
def test_a_position_is_reached_without_history(order, positions, size):
    expected = {position: [order.at(position + i) for i in range(size)] for position in positions}
    for position in reversed(positions):
        assert order.batch(position, size) == expected[position]


@given(rows=st.integers(1, 300), window=st.integers(1, 120), epoch=st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_rows_are_permuted_within_their_window_in_every_epoch(rows, window, epoch):
    drawn = [i.row for i in one_mix({"law": 1.0}, {"law": rows}, 0, window).batch(epoch * rows, rows)]
    for start in range(0, rows, window):
        assert sorted(drawn[start : start + window]) == list(range(start, min(start + window, rows)))


def test_windows_and_epochs_are_shuffled_differently():
    drawn = np.array([i.row for i in one_mix({"law": 1.0}, {"law": 192}, 0, 64).batch(0, 2 * 192)]).reshape(2, 3, 64) % 64
    assert len({tuple(window.tolist()) for window in drawn.reshape(6, 64)}) == 6


@given(window=st.integers(1, 50), windows=st.integers(1, 5), appended=st.integers(0, 200), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_whole_windows_of_the_first_epoch_do_not_change_when_rows_are_appended(window, windows, appended, seed):
    whole, mix = window * windows, {"law": 0.75, "news": 0.25}
    before = one_mix(mix, {"law": whole, "news": 10**6}, seed, window)
    after = one_mix(mix, {"law": whole + appended, "news": 10**6}, seed, window)
    positions = whole  # at least this many positions are within the first epoch of law
    assert before.batch(0, positions) == after.batch(0, positions)


def test_without_a_window_appended_rows_change_the_order():
    before, after = (one_mix({"law": 1.0}, {"law": rows}).batch(0, 100) for rows in (100, 101))
    assert before != after


def test_a_segment_border_changes_the_mixture_at_its_row_and_realized_says_so():
    order = SampleOrder([MixAt(0, {"law": 1.0}), MixAt(100, {"law": 0.5, "news": 0.5})], {"law": 500, "news": 50}, 0)
    ids = order.batch(0, 200)
    assert {i.source for i in ids[:100]} == {"law"}
    assert Counter(i.source for i in ids[100:]) == {"law": 50, "news": 50}
    assert order.realized(100) == {"law": 1.0}
    assert order.realized(200) == {"law": 0.75, "news": 0.25}
    assert order.realized(200, since=100) == {"law": 0.5, "news": 0.5}
    assert order.realized(0) == {}
    assert order.starts == (0, 100)
    law = [i.row for i in ids if i.source == "law"]
    assert len(set(law)) == 150  # no row twice


@pytest.mark.parametrize("starts", [(), (5,), (0, 9, 8)])
def test_mixtures_that_do_not_ascend_from_zero_are_refused(starts):
    with pytest.raises(ValueError, match="mixtures must ascend from position 0"):
        SampleOrder([MixAt(start, {"law": 1.0}) for start in starts], {"law": 1}, 0)


def test_a_source_without_rows_is_refused_if_it_is_drawn_from():
    with pytest.raises(ValueError, match="no rows to draw from news"):
        one_mix({"law": 0.5, "news": 0.5}, {"law": 1, "news": 0})
    one_mix({"law": 1.0, "news": 0.0}, {"law": 1, "news": 0})


def test_a_negative_position_is_refused():
    with pytest.raises(IndexError, match="negative position -1 in the order"):
        one_mix({"law": 1.0}, {"law": 1}).at(-1)


def test_bijections_of_old_windows_are_let_go(monkeypatch):
    monkeypatch.setattr(order_module, "_KEPT_BIJECTIONS", 10)
    order = one_mix({"law": 1.0}, {"law": 1000}, 0, 1)
    assert [i.row for i in order.batch(0, 500)] == list(range(500))
    assert len(order._bijections) <= 10


def test_the_worked_example_of_the_module_is_what_it_does():
    tried = doctest.testmod(sys.modules[SampleOrder.__module__])
    assert (tried.failed, tried.attempted > 1) == (0, True)
