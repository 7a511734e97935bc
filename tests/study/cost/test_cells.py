"""What a cell costs, alone."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.study.cost.cells import plan_cell, require_cell
from cpt_ray.study.study import StudyDriver
from tests.study.planned import Lines, graph_of
from tests.study.test_grid import MIX


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
