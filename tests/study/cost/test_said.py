"""A plan as it is printed."""

from __future__ import annotations

from cpt_ray.plan.hardware import load_hardware
from cpt_ray.study.cost.cells import plan_cell
from cpt_ray.study.cost.place import Choice
from cpt_ray.study.cost.said import render_cost
from tests.study.planned import graph_of


def test_what_workers_ask_of_ray_is_said_where_there_is_ray(tiny):
    (alone,), (under_ray,) = graph_of(tiny).cells, graph_of(tiny, "runtime.kind=ray", "runtime.workers=2").cells
    assert "Asked of Ray" not in render_cost(plan_cell(alone))
    text = render_cost(plan_cell(under_ray))
    assert "Asked of Ray: 2 training workers with 1 CPU each, and 0." in text
    planned = render_cost(plan_cell(under_ray, Choice(load_hardware("h100"), 4)))
    assert "Asked of Ray: 4 training workers with 1 CPU, 1 GPU each, and 2.9 GiB of host memory for each" in planned


def test_the_arithmetic_is_shown_if_it_is_asked_for(tiny):
    cost = plan_cell(graph_of(tiny).cells[0])
    assert "tiny: memory of a worker, in bytes" not in render_cost(cost)
    assert "tiny: memory of a worker, in bytes" in render_cost(cost, explain=True)
