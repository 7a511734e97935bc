"""Intervals hold their level for few, unequal units and few seeds; what says nothing of the error gives none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from cpt_ray.evaluate import intervals
from cpt_ray.evaluate.intervals import LEAST_UNITS, estimate, holm


def found(values, weights=None, *, samples=2000, seed=0):
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    weights = np.ones(values.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    return estimate(values, weights, samples=samples, random=intervals.generator(seed, "test"))


def lengths(kind: str, count: int, random: np.random.Generator):
    return {
        "equal": lambda: np.full(count, 1000.0),
        "log-normal": lambda: np.exp(random.normal(7, 1, count)),
        "Pareto": lambda: 300 * (1 + random.pareto(1.5, count)),
    }[kind]()


@pytest.mark.accept(answer=1)
@pytest.mark.parametrize("kind", ["equal", "log-normal", "Pareto"])
@pytest.mark.parametrize("count", [10, 50])
def test_equal_models_differ_in_five_percent_of_studies(kind, count):
    """600 draws have a standard error of 0.9 points: 2.5 to 7.5 % is the level of 5 within 2.8 of them."""
    random = np.random.default_rng([count, len(kind)])
    wrong = 0
    for trial in range(600):
        weights = lengths(kind, count, random)
        one = found(random.normal(0, 1, count) * np.sqrt(weights), weights, samples=400, seed=trial)
        low, high = one.bounds(0.95)
        wrong += not low <= 0 <= high
    assert 0.025 * 600 <= wrong <= 0.075 * 600


@pytest.mark.accept(answer=1)
@pytest.mark.parametrize("seed_noise", [0.0, 0.02])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_models_of_few_seeds_differ_in_at_most_five_percent(seeds, seed_noise):
    random = np.random.default_rng([seeds, int(1000 * seed_noise)])
    wrong = 0
    for trial in range(400):
        weights = lengths("log-normal", 40, random)
        shared = random.normal(0, 0.05, 40) * np.sqrt(1000 * weights)
        own = random.normal(0, 0.02, (seeds, 40)) * np.sqrt(1000 * weights)
        values = shared + own + np.outer(random.normal(0, seed_noise, seeds), weights)
        low, high = found(values, weights, samples=400, seed=trial).bounds(0.95)
        wrong += not low <= 0 <= high
    assert wrong <= 0.075 * 400


@pytest.mark.accept(answer=1)
def test_a_planted_effect_is_covered_and_found():
    random = np.random.default_rng(1)
    covered = 0
    for trial in range(500):
        weights = lengths("log-normal", 30, random)
        values = 0.03 * weights + random.normal(0, 0.3, 30) * np.sqrt(weights)
        low, high = found(values, weights, samples=400, seed=trial).bounds(0.95)
        covered += low <= 0.03 <= high
    assert 0.92 * 500 <= covered <= 0.98 * 500


def test_items_that_are_right_or_wrong_get_the_p_value_of_the_sign_test():
    """Five of forty items turned right and none wrong: two halves to the fifth."""
    one = found([1.0] * 5 + [0.0] * 35, samples=40_000)

    assert one.p_value() == pytest.approx(2 / 2**5, rel=0.05)


def test_the_sign_test_is_exact_and_the_subsets_converge_to_it():
    values = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 29)
    exact = binomtest(9, 11).pvalue
    assert found(values).p_value() == pytest.approx(exact)
    counted = replace(found(values, samples=100_000), exact=None)
    assert counted.p_value() == pytest.approx(exact, rel=0.05)


def test_interval_and_exact_test_agree_on_zero_whatever_the_subsets_say():
    """Few subsets count the p-value with an error: without the exact one, interval and test would contradict each other."""
    contradictions, random = 0, np.random.default_rng(8)
    for trial in range(300):
        values = random.choice([-1.0, 0.0, 1.0], 30, p=[0.1, 0.6, 0.3])
        one = found(values, samples=200, seed=trial)
        if one.missing:
            continue
        low, high = one.bounds(0.95)
        assert (low > 0 or high < 0) is (one.p_value() <= 0.05)
        low, high = replace(one, exact=None).bounds(0.95)
        contradictions += (low > 0 or high < 0) is not (one.p_value() <= 0.05)
    assert contradictions > 0


@pytest.mark.parametrize(
    ("values", "weights"), [([[1.0, 0.0] * 10] * 2, None), ([1.0, 2.0] * 10, None), ([1.0, 0.0] * 10, [1.0, 2.0] * 10)]
)
def test_seeds_unequal_changes_and_unequal_units_have_no_sign_test(values, weights):
    assert found(values, weights).exact is None


def test_what_only_describes_has_the_degrees_of_freedom_of_units_and_seeds_together():
    values = np.random.default_rng(4).normal(0.5, 1, 40) + np.array([[0.1], [0.0], [-0.1]])
    one = found(values)
    sure, described = one.bounds(0.95), one.bounds(0.95, describes=True)
    assert sure[0] < described[0] < one.value < described[1] < sure[1]
    # A single seed has nothing to pool.
    single = found(values[:1])
    assert single.bounds(0.95) == single.bounds(0.95, describes=True)
    # Where some subsets never reach what is asked, t has the degrees of freedom of the seeds alone.
    open_ended = replace(one, ratios=np.sort(np.append(one.ratios[:-800], np.full(800, np.inf))))
    assert open_ended.bounds(0.95)[0] == open_ended.bounds(0.95, describes=True)[0]


def test_the_p_value_is_the_level_at_which_the_interval_loses_zero():
    values = np.random.default_rng(3).normal(0.5, 1, (3, 20))
    for one in (found(values[:1]), found(values)):
        low, high = one.bounds(1 - one.p_value() * 1.02)
        assert low > 0 or high < 0
        low, high = one.bounds(1 - one.p_value() * 0.98)
        assert low <= 0 <= high


@pytest.mark.parametrize(
    ("seeds", "noise", "level"),
    [(1, 0.0, 0.05), (1, 0.0, 0.0125), (2, 0.2, 0.05), (2, 0.2, 0.0125), (3, 0.2, 0.0125), (5, 0.1, 0.05)],
)
def test_an_effect_of_the_smallest_measurable_size_is_found_four_times_out_of_five(seeds, noise, level):
    random = np.random.default_rng(5)

    def drawn(effect):
        return random.normal(effect, 1, 40) + noise * random.normal(size=(seeds, 1))

    size = np.mean([found(drawn(0.0), samples=800).smallest_effect(1 - level) for _ in range(100)])
    hits = sum(found(drawn(size), samples=800, seed=n).p_value() <= level for n in range(300))
    assert 0.72 * 300 <= hits <= 0.9 * 300


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0.1] * (LEAST_UNITS - 1), "9 units are too few"),
        ([0.1] * 20, "all units are equal"),
        ([0.0] * 20, "all units are equal"),
    ],
)
def test_without_a_spread_there_is_no_interval(values, says):
    one = found(values)

    assert says in one.missing
    assert one.interval(0.95, "over documents") is None
    assert one.smallest_effect(0.95) is None
    assert one.p_value() == 1.0
    assert one.value == pytest.approx(values[0])


@pytest.mark.parametrize(
    ("values", "weights"), [([math.nan] + [1.0] * 9, None), ([1.0] * 10, [0.0] * 10), ([1.0] * 10, [-1.0] + [1.0] * 9)]
)
def test_what_is_no_number_is_refused(values, weights):
    with pytest.raises(ValueError, match=r"finite|weights"):
        found(values, weights)


def test_what_a_family_does_not_reject_shares_its_level():
    assert intervals.holm_level([0.001, 0.03, 0.9], 0.05) == 0.025
    assert intervals.holm_level([0.02, 0.03, 0.9], 0.05) == pytest.approx(0.05 / 3)
    assert intervals.holm_level([0.001, 0.002], 0.05) == 0.05
    assert intervals.holm_level([], 0.05) == 0.05


def test_units_of_no_weight_do_not_break_the_ratio():
    low, high = found([0.0] * 5 + [1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5 + [1.0] * 5).bounds(0.9)

    assert math.isfinite(low)
    assert low < 3 < high


def test_the_generator_depends_on_seed_and_name():
    draws = {(seed, name): intervals.generator(seed, name).integers(1 << 40) for seed in (0, 1) for name in ("a", "b")}

    assert len(set(draws.values())) == 4
    assert draws[0, "a"] == intervals.generator(0, "a").integers(1 << 40)


def test_blocks_do_not_change_the_number_of_subsets(monkeypatch):
    monkeypatch.setattr(intervals, "_BLOCK_CELLS", 70)
    ratios = intervals.subset_ratios(np.ones(10), np.ones(10), samples=50, random=intervals.generator(0, "blocks"))

    assert len(ratios) == pytest.approx(50, abs=2)


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([]) == []


def test_bits_per_byte_of_eight_nats_of_ln_two_in_four_bytes_is_two():
    assert float(intervals.bits_per_byte(8 * np.log(2), 4)) == pytest.approx(2)
