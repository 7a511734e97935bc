"""lm-eval's tasks: found or refused with the nearest name, built, and read as items."""

from __future__ import annotations

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.evaluate.harness_tasks import build_tasks, task_items
from tests.evaluate.own_tasks import write_own_tasks

KEY = "evaluate.harness_tasks"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_own_tasks(tmp_path_factory.mktemp("tasks"))


def test_the_items_of_harness_tasks_are_their_questions_and_the_text_of_the_right_answers(own):
    found = task_items(("own_group",), str(own))
    assert [(item.task, item.id, item.question, item.answer) for item in found[:2]] == [
        ("own_choice", "own_choice-0", "Q: What is 0?", "no 0"),
        ("own_choice", "own_choice-1", "Q: What is 1?", "yes 1"),
    ]
    assert [(item.task, item.id, item.question, item.answer) for item in found[13:]] == [
        ("own_free", "0", "Say it", "it is said")
    ]


@pytest.mark.accept(answer=2)
def test_an_unknown_task_names_the_nearest(own):
    with pytest.raises(ConfigError, match=r"names 'own_choise', which the installed lm-eval does .*nearest is 'own_choice'"):
        build_tasks(["own_choise"], str(own), KEY)
    with pytest.raises(ConfigError, match=r"prepare\.decontaminate\.tasks names 'hellaswagg', .*; the nearest is 'hellaswag'"):
        task_items(("hellaswagg",), None)


@pytest.mark.accept(answer=2)
def test_a_task_whose_data_cannot_be_had_says_what_to_run(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'ibm/piqa' on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(ConfigError, match=r"tasks piqa: lm-eval could not load it: Couldn't reach") as caught:
        build_tasks(["piqa"], None, KEY)
    assert "cpt-ray fetch-tasks" in caught.value.fix
    assert "more" not in caught.value.problem


def test_a_data_set_that_is_a_script_is_said(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Dataset scripts are no longer supported, but found logiqa.py")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(ConfigError, match="piqa: lm-eval could not load it: Dataset scripts are no longer supported") as caught:
        build_tasks(["piqa"], None, KEY)
    assert "if its data set is a script" in caught.value.fix


def test_a_file_that_is_no_task_is_said(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match=r"evaluate\.harness_tasks: .*mine\.yaml is no task file of lm-eval"):
        build_tasks([str(tmp_path / "mine.yaml")], None, KEY)
