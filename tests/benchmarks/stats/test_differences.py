"""A small simulation of paired differences: ours holds its level, the bootstrap does not, and the claims name the worst."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.stats.differences import DOCUMENTS, EFFECT, KINDS, SEED_NOISE, SEEDS, Cell, Wrong, cells, claims, simulate

pytestmark = pytest.mark.accept(answer=1)


def test_every_design_that_is_claimed_is_simulated():
    found = set(cells())
    one_seed = {(one.documents, one.kind, one.effect) for one in found if one.seeds == 1}
    assert one_seed >= set(itertools.product(DOCUMENTS, KINDS, (0, EFFECT)))
    assert {(one.seeds, one.seed_noise) for one in found} >= {(seeds, noise) for seeds in SEEDS for noise in SEED_NOISE}


def test_ten_documents_and_two_seeds_keep_their_level_and_the_bootstrap_does_not():
    """At 5 %, 400 studies are wrong more than 33 times in 1 of 200 tries; of the second, the bootstrap is wrong in 26 %."""
    few, seeded = simulate(Cell(10, "log-normal"), 400), simulate(Cell(50, "log-normal", 2, 0.02), 400)
    assert few.ours < 34 / 400
    # An interval that is always open would be wrong in none.
    assert few.ours > 0
    assert seeded.ours < 34 / 400
    assert seeded.bootstrap > 0.15
    assert few.bootstrap > few.ours


def test_a_planted_effect_is_covered_and_a_study_is_the_same_twice():
    planted = Cell(50, "equal", effect=EFFECT)
    found = simulate(planted, 400)
    assert 0 < found.ours < 34 / 400
    assert simulate(planted, 20) == simulate(planted, 20)


def test_the_claims_are_the_worst_and_the_best_of_their_designs():
    found = [
        Wrong(Cell(10, "equal"), 0.01, 0.2), Wrong(Cell(50, "equal"), 0.05, 0.3), Wrong(Cell(200, "Pareto"), 0.045, 0.1),
        Wrong(Cell(50, "log-normal", 2, 0.02), 0.033, 0.4), Wrong(Cell(50, "log-normal", 5, 0.0), 0.039, 0.1),
        Wrong(Cell(50, "log-normal", 3, 0.02, EFFECT), 0.015, 0.2), Wrong(Cell(50, "log-normal", 5, 0.0, EFFECT), 0.04, 0.1),
        Wrong(Cell(50, "equal", effect=EFFECT), 0.06, 0.2), Wrong(Cell(200, "equal", effect=EFFECT), 0.03, 0.1),
    ]  # fmt: skip
    made = {claim.id: claim for claim in claims(found, 400)}
    assert made["stats.false_positive_max"].value == 0.05
    assert made["stats.false_positive_min"].value == 0.045  # 10 documents may be conservative
    assert made["stats.seed_false_positive_max"].value == 0.039
    assert made["stats.seed_false_positive_min"].value == 0.033
    assert (made["stats.seed_coverage_max"].value, made["stats.seed_coverage_max"].compared_with) == (0.985, "smallest: 0.960")
    assert (made["stats.coverage_min"].value, made["stats.coverage_max"].value) == (0.94, 0.97)
    assert made["stats.false_positive_max"].compared_with == "the percentile bootstrap: 0.300"
    assert "400 studies each" in made["stats.false_positive_max"].claim
    assert len(made["stats.false_positive_max"].raw) == len(found)
