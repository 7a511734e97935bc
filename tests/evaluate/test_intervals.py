"""The bootstrap: pairing, seeding, blocks, and interval coverage."""

import numpy as np
import pytest

from cpt_ray.evaluate import intervals


def test_columns_are_resampled_together():
    columns = np.arange(12, dtype=np.float64)[:, None] * np.array([[1.0, 3.0]])

    sums = intervals.resample_sums(columns, samples=50, random=intervals.generator(0, "pairs"))

    assert sums[:, 1] == pytest.approx(3 * sums[:, 0])
    assert sums[:, 0].std() > 0


def test_the_generator_depends_on_seed_and_name():
    draws = {(seed, name): intervals.generator(seed, name).integers(1 << 40) for seed in (0, 1) for name in ("a", "b")}

    assert len(set(draws.values())) == 4
    assert draws[0, "a"] == intervals.generator(0, "a").integers(1 << 40)


def test_blocks_do_not_change_the_number_of_samples(monkeypatch):
    monkeypatch.setattr(intervals, "_BLOCK_CELLS", 70)
    columns = np.ones((10, 1))

    sums = intervals.resample_sums(columns, samples=25, random=intervals.generator(0, "blocks"))

    assert sums.shape == (25, 1)
    assert sums == pytest.approx(10.0)


def test_a_percentile_interval_holds_the_central_share():
    interval = intervals.percentile_interval(np.arange(101, dtype=np.float64), confidence=0.9, kind="counted")

    assert (interval.low, interval.high, interval.confidence, interval.kind) == (
        pytest.approx(5),
        pytest.approx(95),
        0.9,
        "counted",
    )


def test_a_95_percent_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(7)
    covered = 0
    for trial in range(1000):
        values = random.normal(5, 1, size=(60, 1))
        sums = intervals.resample_sums(values, samples=400, random=intervals.generator(trial, "cover"))
        interval = intervals.percentile_interval(sums[:, 0] / 60, confidence=0.95, kind="")
        covered += interval.low <= 5 <= interval.high
    assert 900 <= covered <= 970  # slightly low at 60 documents, as expected of the percentile method


def test_bits_per_byte_of_eight_nats_of_ln_two_in_four_bytes_is_two():
    assert float(intervals.bits_per_byte(8 * np.log(2), 4)) == pytest.approx(2)
