"""A grid names what depends on an axis after it, and shares all that does not."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.records import RunRecord
from cpt_ray.study.graph import Chosen, StudyGraph
from cpt_ray.study.grid import Grid
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.train import TRAIN
from tests.study.planned import graph_of

MIX = "axes.mix={key: arms.legal.mix, values: {half: {law: 0.5, news: 0.5}, most: {law: 0.75, news: 0.25}}}"
FACTOR = "axes.factor={key: train.learning_rate_factor, values: [0.5, 1.0]}"
PACK = "axes.pack={key: prepare.pack.sequence_length, values: [32, 64]}"
CONTEXT = "axes.context={key: evaluate.context, values: [32, 64]}"


def test_cells_share_what_no_axis_of_theirs_changes(tiny):
    graph = graph_of(tiny, MIX, PACK)
    assert [len(graph.of(stage)) for stage in (MODELS, DOCUMENTS, HELD_OUT, SHARDS)] == [1, 1, 1, 2]
    # Four cells of a trunk, two budgets and a control; the control does not depend on the domain arm's mixture.
    assert len(graph.of(TRAIN)) == 4 * 3 + 2
    assert len(graph.of(EVALUATE)) == 1 + 4 * 2 + 2
    assert len({id(node) for cell in graph.cells for node in cell.of(SHARDS)}) == 2


def test_runs_and_arms_are_named_after_the_axes_that_matter_to_them(tiny):
    grid = Grid(graph_of(tiny, MIX, PACK))
    names = [one.name for one in grid.trained()]
    assert "tiny-legal-4000-seed0@mix-half+pack-32" in names
    assert [name for name in names if "control" in name] == [
        "tiny-control-4000-seed0@pack-32",
        "tiny-control-4000-seed0@pack-64",
    ]
    assert len(set(names)) == 14
    assert [one.name for one in grid.scored() if one.node.work.is_base] == ["tiny-base"]
    assert grid.controls()["legal@mix-most+pack-64"] == {"control@pack-64"}
    assert grid.arms()["legal@mix-half+pack-32"].mix == {"law": 0.5, "news": 0.5}


def test_a_base_that_is_scored_in_two_ways_is_two_models(tiny):
    grid = Grid(graph_of(tiny, CONTEXT))
    assert {one.names.model for one in grid.scored()} == {"tiny@context-32", "tiny@context-64"}
    # Training does not depend on how models are scored: it is done once, and its scores twice.
    assert len({id(one.node) for one in grid.trained()}) == 4
    assert len(grid.scored()) == 2 * 4


def test_a_study_without_axes_has_plain_names(tiny):
    grid = Grid(graph_of(tiny))
    assert [one.name for one in grid.trained()] == [one.node.name for one in grid.trained()]
    assert set(grid.arms()) == {"legal", "control"}


def test_the_cells_of_a_grid_are_those_of_single_studies(tiny):
    graph = graph_of(tiny, MIX, FACTOR)
    alone = graph_of(tiny, "arms.legal.mix={law: 0.75, news: 0.25}", "train.learning_rate_factor=0.5")
    cell = next(cell for cell in graph.cells if cell.cell.name == "mix-most+factor-0.5")
    assert [node.folder for node in cell.of(EVALUATE)] == [node.folder for node in alone.of(EVALUATE)]


def test_names_do_not_depend_on_which_cells_are_chosen(tiny):
    config = load_study(tiny.config, (MIX, PACK))
    whole = StudyGraph(config, tiny.config)
    part = StudyGraph(config, tiny.config, chosen=Chosen(only=("mix-half*",), exclude=("*pack-64",)))
    assert [cell.cell.name for cell in part.cells] == ["mix-half+pack-32"]
    names = [one.name for one in Grid(part).trained()]
    assert names == [one.name for one in Grid(whole).trained() if one.name.endswith(("@mix-half+pack-32", "@pack-32"))]


def test_cells_that_would_train_and_score_the_same_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"cells batch-1 and batch-2 are the same study: what axes\.batch sets") as error:
        graph_of(tiny, "axes.batch={key: train.micro_batch_size, values: [1, 2]}")
    assert error.value.fix.startswith("remove axes.batch")


def test_a_run_of_no_cell_is_refused_by_name(tiny):
    with pytest.raises(ConfigError, match="there is no run 'tiny-legal-4000-seed0'") as error:
        Grid(graph_of(tiny, MIX)).run("tiny-legal-4000-seed0")
    assert "tiny-legal-4000-seed0@mix-half" in error.value.fix


def test_a_merge_is_named_after_the_axes_of_its_arm_and_points_to_its_run_of_the_grid(tiny):
    grid = Grid(graph_of(tiny, MIX, "merges=[{name: frontier, interpolate: {weights: [0.5]}}]"))
    names = {f"tiny-legal-4000-frontier-0.5-seed0@mix-{mix}" for mix in ("half", "most")}
    assert {one.name for one in grid.merged()} == names < {one.name for one in grid.scored()}
    member = grid.merged()[0]
    merge = member.node.work.merge
    plain = RunRecord(
        run=member.node.name,
        kind="merge",
        model="tiny",
        arm="legal",
        seed=0,
        budget_tokens=4000,
        parent=merge.made_of,
        export_path="/nowhere",
        annealed=True,
        merge=merge,
    )
    record = member.run(plain)
    assert (record.run, record.arm, record.merge.run) == (member.name, "legal@mix-half", member.name)
    assert record.parent == record.merge.made_of == "tiny-legal-4000-seed0@mix-half"
    assert record.cell == "tiny-legal@mix-half-4000-frontier-0.5"
