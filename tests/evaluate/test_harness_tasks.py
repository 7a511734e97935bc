"""lm-eval's tasks: found or refused with the nearest name, built, and read as items."""

from __future__ import annotations

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.evaluate.harness_tasks import build_tasks, require_scorable, task_items, task_versions
from tests.evaluate.own_tasks import write_own_tasks, write_task

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


def test_tasks_that_give_each_item_a_share_are_fit_to_be_compared(own):
    require_scorable(["own_mean", "own_free", "own_written", str(own / "own_other.yaml")], str(own), KEY, ["quiz"])


def test_a_task_that_cannot_be_compared_is_refused_with_its_metric_and_what_to_do(own):
    with pytest.raises(
        ConfigError, match=r"evaluate\.harness_tasks own_text: it reports word_perplexity; models are"
    ) as caught:
        require_scorable(["own_choice", "own_text"], str(own), KEY, [])
    assert "acc, exact_match, em, f1 or acc_norm as a mean over the items" in caught.value.problem
    assert "leave own_text out of evaluate.harness_tasks; if it measures perplexity, make its text a source" in caught.value.fix


def test_a_metric_that_is_no_mean_over_items_or_better_when_lower_is_not_taken(tmp_path):
    row = [{"q": "it", "a": "it"}]
    form = {"doc_to_text": "{{q}}", "doc_to_target": "{{a}}", "output_type": "generate_until"}
    metrics = {
        "corpus_f1": {"metric": "f1", "aggregation": "f1"},
        "errors": {"metric": "exact_match", "aggregation": "mean", "higher_is_better": False},
    }
    for name, metric in metrics.items():
        write_task(tmp_path, name, row, metric_list=[metric], **form)
    for name, metric in metrics.items():
        with pytest.raises(ConfigError, match=f"{name}: it reports {metric['metric']}; models are compared item by item"):
            require_scorable([name], str(tmp_path), KEY, [])


@pytest.mark.parametrize(
    ("tasks", "exams", "named"),
    [
        (["own_group", "own_choice"], [], "own_choice is in own_choice and in another entry"),
        (["own_choice"], ["own_choice"], "own_choice is in own_choice and in another entry or exam"),
    ],
)
def test_a_name_that_is_taken_is_refused_before_training(own, tasks, exams, named):
    with pytest.raises(ConfigError, match=named):
        require_scorable(tasks, str(own), KEY, exams)


def test_versions_are_those_of_lm_eval_down_to_single_tasks():
    assert task_versions("piqa", None) == {"piqa": "1.0"}
    whole = task_versions("mmlu", None)
    assert len(whole) > 57
    assert "mmlu_anatomy" in whole
    assert "mmlu" in whole


def test_own_tasks_are_known_by_their_content_with_functions_and_local_data(tmp_path):
    own = write_own_tasks(tmp_path)

    def look() -> dict[str, object]:
        return {name: task_versions(name, str(own)) for name in ("own_choice", "own_other", "own_mean")}

    before = look()
    assert set(before["own_mean"]) == {"own_mean", "own_choice", "own_other"}
    write_task(
        own, "own_new", [{"q": "it", "a": "it"}], output_type="loglikelihood", doc_to_text="{{q}}", doc_to_target="{{a}}"
    )
    assert look() == before
    with (own / "own_other.jsonl").open("a") as lines:
        lines.write('{"id": "more", "q": "What?", "options": ["a", "b"], "right": 0}\n')
    assert {name for name, found in look().items() if found != before[name]} == {"own_other", "own_mean"}
    path = str(own / "own_choice.yaml")
    alone = task_versions(path, None)
    assert list(alone) == ["own_choice.yaml"]
    (own / "judge.py").write_text("LIMIT = 1\n")
    assert task_versions(path, None) != alone
