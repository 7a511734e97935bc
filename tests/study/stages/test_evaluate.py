"""What is scored: each base, each budget and each trajectory point, by name, with the record of the scored run."""

from __future__ import annotations

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.study.stages.evaluate import EVALUATE, base_run, scored_run
from cpt_ray.study.stages.exams import EXAMS
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.train import TRAIN
from tests.integration.finished import CONTROL, LARGE, SMALL, TRUNK
from tests.study.planned import graph_of


def test_bases_come_first_then_budgets_then_points_and_a_trunk_is_none_of_them(tiny):
    graph = graph_of(tiny, "train.trajectory_tokens=[1000, 2000]")
    names = [node.name for node in graph.of(EVALUATE)]
    assert names[:4] == [base_run("tiny"), SMALL, LARGE, CONTROL]
    points = [node for node in graph.of(EVALUATE) if node.work.mark is not None]
    assert [node.name for node in points] == names[4:]
    assert {(node.input("subject").name, node.work.mark) for node in points} == {
        (run, mark) for run in (TRUNK, CONTROL) for mark in (1000, 2000)
    }
    assert TRUNK not in names


def test_every_model_is_scored_on_the_same_sets_and_exams(tiny):
    graph = graph_of(tiny)
    for node in graph.of(EVALUATE):
        assert (node.input("held_out"), node.input("exams")) == (graph.one(HELD_OUT), graph.one(EXAMS))
        assert node.work.evaluate == graph.config.evaluate


def test_a_base_is_scored_as_a_run_that_nobody_trained(tiny):
    graph = graph_of(tiny)
    record = scored_run(graph.one(EVALUATE, base_run("tiny")))
    assert (record.run, record.kind, record.tokens_seen, record.training) == ("tiny-base", "base", 0, None)
    assert record.export_path == str(graph.one(MODELS).folder)


def test_a_run_that_is_not_trained_names_the_verb_that_trains_it(tiny):
    with pytest.raises(ConfigError, match=f"train/{SMALL}-.* has not been built yet") as error:
        scored_run(graph_of(tiny).one(EVALUATE, SMALL))
    assert "run cpt-ray train first" in error.value.fix


@pytest.mark.ray
@pytest.mark.slow
def test_a_trained_run_is_scored_by_its_own_record(finished_study):
    graph = graph_of(finished_study.study)
    record = scored_run(graph.one(EVALUATE, LARGE))
    assert record == finished_study.run(LARGE)
    assert record.export_path == str(graph.one(TRAIN, LARGE).folder / "export")
