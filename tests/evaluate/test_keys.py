"""A key covers all that the lines of a part depend on, and nothing else."""

from __future__ import annotations

import pytest

from cpt_ray.config.sections.evaluate import EvaluateConfig, ExamConfig, HarnessTask
from cpt_ray.evaluate import keys
from cpt_ray.evaluate.keys import exam_key, export_content, held_out_key, model_facts, task_key
from cpt_ray.records import FileEntry, HeldOutSet
from tests.evaluate.tiny import make_items

CONFIG = EvaluateConfig()
EXAM = ExamConfig(name="quiz", path="quiz.jsonl", label="a quiz")
HELD = HeldOutSet(source="law", role="domain", part="test", path="law-test.jsonl", documents=8, bytes=100)


def entry(path: str, sha256: str) -> FileEntry:
    return FileEntry(path=path, size_bytes=1, sha256=sha256)


EXPORT = [entry("export/model.safetensors", "w"), entry("export/config.json", "c"), entry("export/README.md", "r")]


def test_an_export_is_its_weights_and_neither_its_card_nor_the_rest_of_the_run():
    content = export_content(EXPORT, "export/")
    assert content == {"model.safetensors": "w", "config.json": "c"}
    others = [entry("run.json", "x"), entry("trajectory/9/export/model.safetensors", "y")]
    assert content == export_content([*EXPORT, *others], "export/")
    moved = [entry(f"trajectory/9/{one.path}", one.sha256) for one in EXPORT]
    assert content == export_content(moved, "trajectory/9/export/")


def all_keys(
    config=CONFIG,
    *,
    export="w",
    prefix="<s>",
    sha256="d",
    held=HELD,
    exam=EXAM,
    items=5,
    examples=1,
    task="piqa",
    version="1.0",
):
    model = model_facts({"model.safetensors": export}, config, prefix=prefix)
    one = task if isinstance(task, HarnessTask) else HarnessTask(task=task)
    return {
        "set": held_out_key(model, config, held, sha256).key,
        "exam": exam_key(model, config, exam, make_items(items), make_items(examples)).key,
        "task": task_key(model, config, one, {"piqa": version}).key,
    }


EVERY = {"set", "exam", "task"}


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"export": "v"}, EVERY),
        ({"prefix": "</s>"}, EVERY),
        ({"config": EvaluateConfig(precision="fp32")}, EVERY),
        ({"config": EvaluateConfig(context=64)}, {"set"}),
        ({"config": EvaluateConfig(document_tokens=64)}, {"set"}),
        ({"config": EvaluateConfig(held_out_documents=64)}, {"set"}),
        ({"config": EvaluateConfig(exam_context=64)}, {"exam", "task"}),
        ({"config": EvaluateConfig(harness_seed=7)}, {"task"}),
        ({"config": EvaluateConfig(batch_tokens=64, compile=False, harness_tasks=("piqa",))}, set()),
        ({"sha256": "other text"}, {"set"}),
        ({"held": HELD.model_copy(update={"part": "validation"})}, {"set"}),
        ({"items": 6}, {"exam"}),
        ({"examples": 2}, {"exam"}),
        ({"exam": EXAM.model_copy(update={"style": "letter"})}, {"exam"}),
        ({"exam": EXAM.model_copy(update={"few_shot": 1})}, {"exam"}),
        ({"exam": EXAM.model_copy(update={"label": "another name", "path": "moved.jsonl"})}, set()),
        ({"task": HarnessTask(task="piqa", group="general")}, set()),
        ({"task": HarnessTask(task="piqa", num_fewshot=5)}, {"task"}),
        ({"task": HarnessTask(task="piqa", limit=5)}, {"task"}),
        ({"version": "2.0"}, {"task"}),
    ],
)
def test_only_what_depends_on_a_change_gets_another_key(change, moved):
    before, after = all_keys(), all_keys(**change)
    assert {name for name in before if before[name] != after[name]} == moved
    assert len(set(before.values())) == 3


def test_the_versions_of_lm_eval_and_of_the_code_are_in_the_key(monkeypatch):
    before = all_keys()
    with monkeypatch.context() as patched:
        patched.setattr(keys, "versions", lambda name: {name: "0.9.9"})
        assert {name for name, key in all_keys().items() if key != before[name]} == {"task"}
    monkeypatch.setattr(keys, "FORMAT", keys.FORMAT + 1)
    assert not set(before.values()) & set(all_keys().values())


@pytest.mark.parametrize(("tasks", "moved"), [(9, False), (10, True)])
def test_entries_of_so_many_tasks_that_each_was_once_a_group_are_scored_again(tasks, moved):
    versions = {f"arithmetic_{place}": "1.0" for place in range(tasks)}
    found = task_key(model_facts({}, EvaluateConfig(), prefix=""), EvaluateConfig(), HarnessTask(task="arithmetic"), versions)
    assert ("groups" in found.depends_on) is moved
