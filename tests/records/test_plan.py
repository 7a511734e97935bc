"""Figures that a plan derives from its sums."""

import pytest

from tests.plan.planned import make_plan, make_study


def test_branches_cost_less_than_independent_runs():
    plan = make_plan(make_study())
    assert plan.paid_ratio == plan.tokens_paid / plan.tokens_independent < 1


@pytest.mark.parametrize("mode", ["independent"])
def test_independent_runs_cost_what_they_cost(mode):
    assert make_plan(make_study(mode=mode)).paid_ratio == 1


def test_a_study_that_trains_nothing_has_a_ratio_of_one():
    assert make_plan(make_study()).model_copy(update={"tokens_independent": 0}).paid_ratio == 1.0
