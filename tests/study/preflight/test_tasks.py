"""Tasks of lm-eval are built before a study begins."""

from __future__ import annotations

import pytest

from cpt_ray.config.sections.evaluate import PRESETS, EvaluateConfig
from cpt_ray.errors import ConfigError
from cpt_ray.study.preflight.tasks import require_tasks
from tests.evaluate.own_tasks import write_own_tasks
from tests.study.planned import graph_of


@pytest.mark.parametrize("stage", ["scan", "train", "evaluate"])
def test_an_unknown_task_is_refused_before_anything_is_built(tiny, stage):
    config = graph_of(tiny, "evaluate.harness_tasks=[hellaswagg]").config
    with pytest.raises(ConfigError, match=r"'hellaswagg', which the installed lm-eval does .*nearest is 'hellaswag'"):
        require_tasks(config, {stage})


def test_a_task_that_cannot_be_compared_is_refused_before_anything_is_built(tiny, tmp_path):
    own = write_own_tasks(tmp_path)
    config = graph_of(tiny, f"evaluate.harness_path={own}", "evaluate.harness_tasks=[own_choice,own_text]").config
    with pytest.raises(ConfigError, match=r"evaluate\.harness_tasks own_text: it reports word_perplexity"):
        require_tasks(config, {"train"})
    fine = graph_of(tiny, f"evaluate.harness_path={own}", "evaluate.harness_tasks=[own_choice,own_written]").config
    assert require_tasks(fine, {"train"})


def test_nothing_is_built_where_nothing_is_left_to_do(tiny):
    assert not require_tasks(graph_of(tiny, "evaluate.harness_tasks=[hellaswagg]").config, {"models"})
    assert not require_tasks(graph_of(tiny).config, {"train"})


def test_presets_are_tasks_that_lm_eval_has():
    from cpt_ray.evaluate.harness_tasks import require_known

    for preset, groups in PRESETS.items():
        tasks = EvaluateConfig(harness_tasks=[f"preset:{preset}"]).harness_tasks
        assert {(one.task, one.group) for one in tasks} == {(name, group) for group, names in groups.items() for name in names}
        for one in tasks:
            require_known(one.task, None, "evaluate.harness_tasks")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["preset:educaton"], "no preset 'educaton', the nearest is 'education'"),
        (["piqa", {"task": "piqa", "num_fewshot": 5}], "harness_tasks names piqa twice"),
        ([{"task": "a b"}], "a name has only the letters"),
        ([{"task": "piqa", "group": "law"}], "'domain' or 'general'"),
    ],
)
def test_wrong_entries_are_refused(tasks, message):
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(harness_tasks=tasks)
