"""A small simulation of studies with few seeds: forecasts cover, and are never surer than the verdict."""

from __future__ import annotations

import pytest

from benchmarks.stats.forecasts import SEEDS, Cell, cells, claims, simulate

pytestmark = pytest.mark.accept(answer=1)


def test_there_is_a_cell_for_every_number_of_seeds_with_and_without_an_effect():
    assert SEEDS == (1, 2, 3, 5)
    assert len(set(cells())) == 8


@pytest.mark.slow
def test_without_an_effect_forecasts_of_two_seeds_cover_and_never_say_more_than_the_verdict(record_property):
    """Of 40 studies at 95 %, 33 or fewer cover with a probability below 1 in 200. Before, more were called certain."""
    counts = simulate(Cell(2, falls=False), 40)
    assert counts.studies == 40
    assert counts.covered >= 34
    assert counts.certain <= 5
    assert counts.surer_before > counts.surer == 0
    assert counts.certain_before > counts.certain
    record_property(
        "forecasts of two seeds, no effect", f"{counts.covered} of 40 intervals cover, {counts.certain} are certain"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "falls"),
    [(2, True), pytest.param(3, True, marks=pytest.mark.full), pytest.param(3, False, marks=pytest.mark.full)],
)
def test_forecasts_cover_and_an_effect_is_predicted(seeds, falls):
    counts = simulate(Cell(seeds, falls), 30)
    assert counts.covered >= 25
    assert counts.surer == 0
    # The test would pass with forecasts that never say anything.
    assert counts.certain >= 18 if falls else counts.certain <= 4


def test_the_claims_are_the_worst_cells_of_several_seeds():
    found = [simulate(Cell(seeds, falls=False), 3) for seeds in (1, 2)]
    found[0].covered, found[1].covered = 0, 2
    coverage, false, surer = claims(found)
    assert (coverage.id, coverage.value) == ("stats.forecast_coverage_min", 2 / 3)
    assert (false.id, surer.id, surer.value) == ("stats.forecast_false_max", "stats.forecast_surer_max", 0.0)
    assert len(coverage.raw) == 2
    assert "pooled degrees of freedom" in coverage.compared_with
