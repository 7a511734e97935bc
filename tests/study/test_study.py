"""A study's records read back, verbs that depend on earlier verbs, and refused budgets."""

from __future__ import annotations

import pytest
import yaml

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.study.stages.evaluate import base_run
from cpt_ray.study.study import StudyDriver
from tests.integration.finished import CONTROL, LARGE, SMALL, TRUNK
from tests.study.planned import Lines


def study_of(tiny, *overrides):
    return StudyDriver(load_study(tiny.config, overrides), tiny.config, Lines())


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_a_verb_whose_inputs_are_not_built_names_the_one_that_builds_them(tiny, verb):
    with study_of(tiny) as study, pytest.raises(ConfigError, match="has not been built yet") as error:
        study.make(verb)
    assert "run cpt-ray prepare first" in error.value.fix
    assert not (tiny.root / "train").exists()


def test_the_study_file_lies_beside_its_results_as_it_was_resolved(tiny):
    with study_of(tiny, "train.learning_rate=1e-4"):
        pass
    resolved = yaml.safe_load((tiny.root / "study.yaml").read_text())
    assert resolved["train"]["learning_rate"] == 1e-4
    assert load_study(tiny.root / "study.yaml") == load_study(tiny.config, ("train.learning_rate=1e-4",))


@pytest.mark.ray
def test_a_plan_counts_tokens_where_shards_exist_and_estimates_them_before(tiny, prepared_study):
    cost, counted = study_of(tiny).plan(), study_of(prepared_study).plan().plan
    estimated, memory = cost.plan, cost.memory
    assert [plan.model for plan in memory] == ["tiny"]
    assert memory[0].host_bytes + memory[0].device_bytes > 0
    assert (estimated.fill_measured, counted.fill_measured) == (False, True)
    assert estimated.largest_budget == {}
    assert set(counted.largest_budget) == {"legal", "control"}


@pytest.mark.ray
def test_budgets_that_repeat_a_source_too_often_are_refused_with_the_key(prepared_study):
    study_of(prepared_study).require_budgets()
    with pytest.raises(ConfigError, match=r"max_epochs") as error:
        study_of(prepared_study, "train.budgets=[4000, 4000000]").require_budgets()
    assert "train.budgets" in error.value.problem + error.value.fix


@pytest.mark.ray
@pytest.mark.slow
def test_records_come_back_in_the_order_of_the_study(finished_study):
    study = study_of(finished_study.study)
    assert [run.name for run in study.grid.trained()] == [TRUNK, SMALL, LARGE, CONTROL]
    assert [run.run for run in study.runs()] == [base_run("tiny"), TRUNK, SMALL, LARGE, CONTROL]
    assert [record.run for record in study.evaluations()] == [base_run("tiny"), SMALL, LARGE, CONTROL]
    assert {of.source for of in study.held_out().sets} == {"law", "news"}
    assert study.shards("tiny") == finished_study.manifest()
    assert study.documents().samples


@pytest.mark.ray
@pytest.mark.slow
def test_tokens_paid_count_a_shared_trunk_once(finished_study):
    comparison = study_of(finished_study.study).comparison()
    runs = {run.run: run for run in study_of(finished_study.study).runs()}
    assert comparison.tokens_paid == sum(run.tokens_paid for run in runs.values())
    assert comparison.tokens_paid < runs[SMALL].tokens_seen + runs[LARGE].tokens_seen + runs[CONTROL].tokens_seen
    assert comparison.tokens_seen == max(run.tokens_seen for run in runs.values())
