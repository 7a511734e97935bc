"""Ladders from evaluations: losses, subsets, FLOPs, shares."""

from __future__ import annotations

import numpy as np
import pytest

from cpt_ray.compare.comparison import Facts, compare
from cpt_ray.compare.deltas import Cell, Scored
from cpt_ray.compare.fits.ladder import SUBSETS, read_ladders
from tests.compare.conftest import CONFIG


def ladders_of(laboratory, probes=None):
    cells = {}
    for record in laboratory.evals:
        cells.setdefault((record.model, record.arm, record.budget_tokens), []).append(
            Scored(record, laboratory.folders[record.run])
        )
    return read_ladders(
        [Cell(*key, scored=tuple(scored)) for key, scored in cells.items()],
        {run.run: run for run in laboratory.runs},
        parameters={"m": 5},
        domain_sources=frozenset({"law"}),
        probes=probes or {},
        seed=0,
    )


def fill(laboratory):
    laboratory.add()
    for seed in (0, 1):
        for budget, law in ((100, 0.95), (200, 0.9)):
            laboratory.add("legal", budget, seed=seed, law=law, weights={"law": 0.75, "news": 0.25})
    laboratory.add("control", 200, law=0.99)


def test_an_arm_has_a_ladder_on_every_set(laboratory):
    fill(laboratory)
    found = ladders_of(laboratory)
    assert [(one.arm, one.set_name, len(one.losses)) for one in found] == [
        ("legal", "law", 4),
        ("legal", "news", 4),
        ("control", "law", 1),
        ("control", "news", 1),
    ]
    law = found[0]
    assert law.base == pytest.approx(1.0, abs=1e-4)
    assert law.losses == pytest.approx([0.95, 0.95, 0.9, 0.9], abs=1e-4)
    assert (law.seeds, law.budgets) == ((0, 1, 0, 1), (100, 100, 200, 200))
    assert law.flops == pytest.approx(1e9 * law.tokens)
    assert (law.share, found[2].share, law.parameters) == (0.75, None, 5)


def test_another_arms_domain_is_a_probe_for_an_arm(laboratory):
    fill(laboratory)
    found = ladders_of(laboratory, {"legal": frozenset({"news"}), "control": frozenset()})
    assert [(one.arm, one.set_name, one.role) for one in found] == [
        ("legal", "law", "domain"),
        ("legal", "news", "probe"),
        ("control", "law", "domain"),
        ("control", "news", "general"),
    ]


def test_subsets_are_the_same_for_all_arms_and_halves_of_each_other(laboratory):
    fill(laboratory)
    legal, _, control, _ = ladders_of(laboratory)
    assert legal.subset_losses.shape == (SUBSETS, 4)
    assert (legal.subset_base == control.subset_base).all()
    assert legal.subset_losses.std(axis=0).min() > 0
    # A subset and its complement lie on both sides of the whole.
    half = SUBSETS // 2
    assert ((legal.subset_base[:half] - legal.base) * (legal.subset_base[half:] - legal.base) <= 0).all()


def test_steps_average_seeds_or_take_one(laboratory):
    fill(laboratory)
    legal = ladders_of(laboratory)[0]
    flops, losses = legal.steps(legal.losses)
    assert flops == pytest.approx([107e9, 207e9])
    assert losses == pytest.approx([0.95, 0.9], abs=1e-4)
    assert legal.steps(legal.losses, 1)[1] == pytest.approx([legal.losses[1], legal.losses[3]])
    assert legal.steps(legal.subset_losses)[1].shape == (SUBSETS, 2)
    assert np.isclose(legal.flops_per_token, 1e9)


def test_a_comparison_holds_what_its_curves_say(laboratory):
    fill(laboratory)
    found = compare(
        laboratory.evals,
        laboratory.folders,
        laboratory.runs,
        CONFIG,
        Facts(control_arms=frozenset({"control"}), domain_sources=frozenset({"law"})),
    ).answers
    assert {one.refused for one in found.fits} == {
        "2 budgets: a curve needs at least 3, besides the base",
        "1 budget: a curve needs at least 3, besides the base",
    }
