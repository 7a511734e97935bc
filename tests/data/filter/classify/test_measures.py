"""Precision, recall, F1 and AUC: values by hand, and intervals that cover."""

import numpy as np
import pytest

from cpt_ray.data.filter.classify.measures import f1_of_chance, in_source, measure, measure_auc, newcombe, wilson


def test_values_of_a_small_table_by_hand():
    probabilities = np.array([0.9, 0.8, 0.7, 0.2, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1], dtype=np.float32)
    positive = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    found = measure(probabilities, positive, 0.7)
    assert (found.false_positives, found.missed, found.positives, found.negatives) == (1, 1, 4, 6)
    assert (found.precision.value, found.recall.value, found.f1.value) == pytest.approx((0.75, 0.75, 0.75))
    assert f1_of_chance(4, 6) == pytest.approx(2 * 0.4 / 1.4)
    assert measure_auc(probabilities, positive).value == pytest.approx(21.5 / 24)  # of 24 pairs one ties and two are wrong


def test_a_score_equal_to_the_threshold_is_called_positive_although_scores_are_float32():
    found = measure(np.array([0.8, 0.1], dtype=np.float32), np.array([True, False]), 0.8)
    assert found.recall.value == 1


def test_wilson_gives_its_published_limits():
    # Newcombe 1998, table I: 81 of 263, 0 of 20, 1 of 29.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_an_interval_has_width_where_nothing_was_confused():
    probabilities = np.array([0.9] * 50 + [0.1] * 50, dtype=np.float32)
    found = measure(probabilities, np.arange(100) < 50, 0.5)
    for value in (found.precision, found.recall, found.f1, measure_auc(probabilities, np.arange(100) < 50)):
        assert value.value == value.interval.high == 1
        assert 0.9 < value.interval.low < 0.97


def test_nothing_called_positive_has_no_precision_and_an_interval_of_everything():
    found = measure(np.zeros(4, dtype=np.float32), np.array([True, True, False, False]), 0.5)
    assert (found.precision.value, found.precision.interval.low, found.precision.interval.high) == (0, 0, 1)
    assert (found.recall.value, found.f1.value) == (0, 0)


def test_intervals_of_f1_and_auc_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(3)
    positive = np.repeat([True, False], [60, 140])
    many = np.repeat([True, False], 200_000)
    draw = lambda classes: 1 / (1 + np.exp(-random.normal(np.where(classes, 1.5, -1.5), 1.5))).astype(np.float32)  # noqa: E731
    truth = measure(values := draw(many), many, 0.5), measure_auc(values, many)
    # The truth at this study's share of positives.
    recall, false = truth[0].recall.value, truth[0].false_positives / truth[0].negatives
    hits = 60 * recall
    f1 = 2 * hits / (hits + 140 * false + 60)
    covered = np.zeros(2)
    for _ in range(400):
        values = draw(positive)
        found = measure(values, positive, 0.5).f1.interval, measure_auc(values, positive).interval
        covered += [found[0].low <= f1 <= found[0].high, found[1].low <= truth[1].value <= found[1].high]
    assert np.all(covered / 400 > 0.91), covered / 400
    assert np.all(covered / 400 < 0.999), covered / 400


def test_newcombe_is_narrower_with_more_documents_and_holds_its_value():
    few, many = newcombe(0.9, 20, 20), newcombe(0.9, 500, 500)
    assert few[0] < many[0] < 0.9 < many[1] < few[1]
    assert newcombe(0.5, 10, 10)[0] < 0.5 < newcombe(0.5, 10, 10)[1]


def test_the_share_in_a_source_is_the_one_that_gives_what_was_called():
    # 400 examples of each class, 90 % recall, 2 % false positives; of a source 5 % of 10,000 are positive.
    probabilities = np.concatenate([np.repeat([0.9, 0.1], [360, 40]), np.repeat([0.9, 0.1], [8, 392])]).astype(np.float32)
    measured = measure(probabilities, np.arange(800) < 400, 0.5)
    share, precision = in_source(measured, 0.05 * 0.9 + 0.95 * 0.02)
    assert share.value == pytest.approx(0.05)
    assert precision.value == pytest.approx(0.05 * 0.9 / (0.05 * 0.9 + 0.95 * 0.02))
    assert share.interval.low < 0.05 < share.interval.high
    assert precision.interval.low < precision.value < precision.interval.high
    # Far below the precision among the balanced examples.
    assert measured.precision.value > 0.97 > 0.8 > precision.value
    assert in_source(measured, 0.0)[0].value == 0
