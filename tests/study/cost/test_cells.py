"""A grid's cost: what each cell takes alone, and what it adds."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.study.cost.cells import plan_cell, plan_cells, require_cell
from cpt_ray.study.study import StudyDriver
from tests.study.planned import Lines, graph_of
from tests.study.test_grid import FACTOR, MIX


def test_what_cells_share_is_paid_once(tiny):
    plan = plan_cells(graph_of(tiny, MIX, FACTOR))
    alone = plan.cells[0].tokens_paid
    assert [cell.tokens_paid for cell in plan.cells] == [alone] * 4
    # The control of 4,000 tokens depends on the rate alone, so the third and fourth cell find it trained.
    assert [cell.new_tokens for cell in plan.cells] == [alone, alone, alone - 4000, alone - 4000]
    assert [cell.new_runs for cell in plan.cells] == [4, 4, 3, 3]
    assert plan.tokens_paid == 4 * alone - 8000
    assert plan.artifacts["train"] == (14, 16)
    assert plan.artifacts["documents"] == (1, 4)


def test_a_cell_costs_what_the_study_of_its_values_costs(tiny):
    cell = graph_of(tiny, MIX).cells[-1]
    alone = graph_of(tiny, "arms.legal.mix={law: 0.75, news: 0.25}").cells[0]
    assert plan_cell(cell) == plan_cell(alone)


def test_a_cell_that_can_not_be_paid_is_named(tiny):
    graph = graph_of(tiny, "axes.batch={key: train.global_batch_size, values: [4, 64]}")
    require_cell(graph.cells[0])
    with pytest.raises(ConfigError, match="cell batch-64: run tiny-legal-2000-seed0 cools down over"):
        require_cell(graph.cells[1])


def test_a_plan_made_before_preparation_is_made_again_after_it(tiny):
    with StudyDriver(load_study(tiny.config), tiny.config, Lines()) as study:
        assert not study.plan().plan.fill_measured
        study.make("prepare")
        assert study.plan().plan.fill_measured
        assert study.plan() is study.plan()
