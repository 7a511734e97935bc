"""A grid's cost: what each cell takes alone, and what it adds."""

from __future__ import annotations

import pytest

from cpt_ray.plan.hardware import load_hardware, parse_price
from cpt_ray.study.cost.cells import plan_cell
from cpt_ray.study.cost.grid import plan_grid
from cpt_ray.study.cost.place import Choice
from tests.study.planned import graph_of
from tests.study.test_grid import CONTEXT, FACTOR, MIX, PACK

ELSEWHERE = Choice(load_hardware("h100"), 2, parse_price("2", "EUR"))


def test_what_cells_share_is_paid_once(tiny):
    plan = plan_grid(graph_of(tiny, MIX, FACTOR)).plan
    alone = plan.cells[0].tokens_paid
    assert [cell.tokens_paid for cell in plan.cells] == [alone] * 4
    # The control of 4,000 tokens depends on the rate alone, so the third and fourth cell find it trained.
    assert [cell.new_tokens for cell in plan.cells] == [alone, alone, alone - 4000, alone - 4000]
    assert [cell.new_runs for cell in plan.cells] == [4, 4, 3, 3]
    assert plan.tokens_paid == 4 * alone - 8000
    assert plan.artifacts["train"] == (14, 16)
    assert plan.artifacts["documents"] == (1, 4)


def test_a_study_without_axes_is_planned_alike_as_a_cell_and_as_a_grid(tiny):
    graph = graph_of(tiny)
    alone, grid = plan_cell(graph.cells[0], ELSEWHERE), plan_grid(graph, ELSEWHERE)
    assert grid.time == alone.time
    assert grid.disk == alone.disk
    assert grid.memory == alone.memory


def test_time_and_money_of_a_grid_are_of_what_its_cells_do_not_share(tiny):
    alone, grid = plan_cell(graph_of(tiny).cells[0], ELSEWHERE), plan_grid(graph_of(tiny, MIX, FACTOR), ELSEWHERE)
    (text, train, scores), (one_text, one_train, one_scores) = grid.time.stages, alone.time.stages
    # One text, one start of the workers, 14 runs, 1 base with 4 x 2 budgets and 2 controls.
    assert text.seconds == one_text.seconds
    control = alone.time.run_seconds["tiny-control-4000-seed0"]
    runs = sum(alone.time.run_seconds.values())
    start = one_train.seconds - runs
    assert train.seconds == pytest.approx(start + 4 * runs - 2 * control)
    assert scores.basis.startswith("11 models, ")
    assert scores.seconds == pytest.approx(one_scores.seconds * 11 / 4)
    assert grid.time.money == pytest.approx(2 * sum(stage.device_hours for stage in grid.time.stages))
    assert sum(cell.new_train_s for cell in grid.plan.cells) == pytest.approx(train.seconds - start)


def test_rows_of_another_length_are_packed_again_and_training_that_is_only_scored_otherwise_is_not_paid_again(tiny):
    packed, alone = plan_grid(graph_of(tiny, PACK), ELSEWHERE), plan_cell(graph_of(tiny).cells[0], ELSEWHERE)
    size = alone.hours.text.num_bytes
    again = size / (3.5e6 * alone.hours.text.workers)
    assert packed.time.stages[0].seconds == pytest.approx(alone.time.stages[0].seconds + again)
    assert packed.disk.documents_bytes == alone.disk.documents_bytes
    assert packed.disk.shards_bytes == pytest.approx(2 * alone.disk.shards_bytes)
    scored = plan_grid(graph_of(tiny, CONTEXT), ELSEWHERE)
    assert scored.time.stages[1] == alone.time.stages[1]
    assert [cell.new_runs for cell in scored.plan.cells] == [4, 0]
    assert scored.time.stages[2].basis.startswith("8 models, ")


def test_the_memory_of_a_grid_is_that_of_its_worst_cell_by_name(tiny):
    found = plan_grid(graph_of(tiny, PACK, MIX), ELSEWHERE)
    peaks = {cell.cell: cell.peak_bytes for cell in found.plan.cells}
    assert len(set(peaks.values())) == 2
    assert found.worst == "pack-64+mix-half"
    assert found.memory[0].peak_bytes == max(peaks.values()) == peaks[found.worst]
    assert all(cell.fits for cell in found.plan.cells)


def test_speeds_that_differ_are_those_of_the_slowest_and_the_fastest_cell(tiny):
    found = plan_grid(graph_of(tiny, PACK), ELSEWHERE).time.tokens_per_s
    assert set(found) == {"tiny in pack-32", "tiny in pack-64"}
    assert set(plan_grid(graph_of(tiny, MIX), ELSEWHERE).time.tokens_per_s) == {"tiny"}


def test_a_branch_goes_on_from_the_trunk_of_an_earlier_cell(tiny):
    cool = "axes.cool={key: arms.legal.cooldown_mix, values: {law: {law: 1.0}, news: {news: 1.0}}}"
    many = "runtime.parallel_runs=8"
    graph, alone = graph_of(tiny, cool, "runtime.kind=ray", many), graph_of(tiny, "runtime.kind=ray", many)
    grid, one = plan_grid(graph, ELSEWHERE), plan_cell(alone.cells[0], ELSEWHERE)
    # The trunk and the control are trained once; each cell has its two branches.
    assert [cell.new_runs for cell in grid.plan.cells] == [4, 2]
    # Side by side all of it takes as long as the longest line, from the trunk to its largest budget, which is that of one cell.
    assert grid.time.stages[1].seconds == pytest.approx(one.time.stages[1].seconds)
    assert grid.time.stages[1].basis == "profile; 5 groups of workers side by side"
    assert one.time.stages[1].basis == "profile; 3 groups of workers side by side"
