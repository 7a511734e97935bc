"""A small simulation: intervals of fitted curves cover, and the claims name the worst."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.stats.fits import Design, claims, simulate


def test_designs_have_at_least_eight_points_and_three_seeds():
    random = np.random.default_rng(0)
    designs = [Design.draw(random, most_budgets=12) for _ in range(200)]
    assert min(one.budgets for one in designs) == 8
    assert {one.seeds for one in designs} == {3, 4, 5}
    assert min(one.documents for one in designs) < 40 < 300 < max(one.documents for one in designs)


@pytest.mark.slow
@pytest.mark.accept(answer=1)
def test_intervals_cover_in_a_small_simulation():
    """Of 40 studies at 95 %, 33 or fewer cover with a probability below 1 in 200."""
    counts = simulate("tokens", 40)
    assert counts.studies == 40
    assert set(counts.covered) == {"E", "x0", "b", "change", "loss"}
    assert min(counts.covered.values()) >= 34
    # The test would pass with intervals that are never closed.
    assert max(counts.unbounded[name] for name in ("x0", "change", "loss")) <= 4


def test_the_claims_are_the_worst_and_the_widest_of_all_questions():
    counts = simulate("power", 5)
    counts.covered.update({"a": 3, "b": 5, "prediction": 4})
    least, most = claims([counts])
    assert (least.id, least.value) == ("stats.fit_coverage_min", 0.6)
    assert (most.id, most.value) == ("stats.fit_coverage_max", 1.0)
    assert len(least.raw) == 3
    assert "percentile bootstrap" in least.compared_with


def test_parts_of_a_simulation_are_the_whole():
    whole, first, second = simulate("power", 4), simulate("power", 2), simulate("power", 2, first=2)
    assert whole.covered == {name: first.covered[name] + second.covered[name] for name in whole.covered}
