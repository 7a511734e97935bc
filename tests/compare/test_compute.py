"""FLOPs to a point, through branches and chains, and the domain text of a run."""

from __future__ import annotations

import pytest

from cpt_ray.compare.compute import domain_share, flops_to
from cpt_ray.records import RunMix, RunRecord
from tests.run_records import cost, training


def run(name, kind, tokens, start, flops, parent=None, mixes=()):
    trained = training(tokens, start_tokens=start, cost=cost(flops=flops), mixes=mixes)
    return RunRecord(run=name, kind=kind, model="m", arm="a", parent=parent, export_path=None, annealed=True, training=trained)


BASE = RunRecord(run="base", kind="base", model="m", export_path=None, annealed=True)
TRUNK = run("trunk", "trunk", 1000, 0, 1e6)
BRANCH = run("branch", "cooldown", 700, 600, 1.5e5, "trunk")


def test_a_branch_stands_on_the_first_part_of_its_trunk():
    assert flops_to(BRANCH, {"trunk": TRUNK}) == pytest.approx(0.6e6 + 1.5e5)


def test_a_point_within_a_run_takes_its_part():
    assert flops_to(BRANCH, {"trunk": TRUNK}, 650) == pytest.approx(0.6e6 + 0.75e5)
    assert flops_to(TRUNK, {}, 250) == pytest.approx(2.5e5)


def test_a_chain_stands_on_all_stages_before():
    second = run("second", "chain", 2000, 1000, 2e6, "trunk")
    third = run("third", "chain", 3000, 2000, 3e6, "second")
    assert flops_to(third, {"trunk": TRUNK, "second": second}) == pytest.approx(6e6)


def test_a_base_took_nothing_and_a_trajectory_points_record_has_it_all():
    point = run("trunk@500", "trajectory", 500, 0, 5e5, "trunk")
    assert flops_to(BASE, {}) == 0
    assert flops_to(point, {"trunk": TRUNK}) == pytest.approx(5e5)


def test_the_domain_share_is_over_all_rows_that_were_drawn():
    mixes = (
        RunMix(first_position=0, rows=30, weights={"law": 1.0}),
        RunMix(first_position=30, rows=10, weights={"law": 0.2, "cases": 0.2, "news": 0.6}),
    )
    found = domain_share(run("r", "trunk", 10, 0, 1.0, mixes=mixes), frozenset({"law", "cases"}))
    assert found == pytest.approx((30 + 4) / 40)


def test_without_mixtures_the_share_is_unknown():
    assert domain_share(BASE, frozenset({"law"})) is None
    assert domain_share(TRUNK, frozenset({"law"})) is None
