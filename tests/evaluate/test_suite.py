"""The suite: one call scores one export, and the files match the record."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from torch._dynamo.utils import counters

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig, ExamConfig
from cpt_ray.errors import ConfigError, DataError
from cpt_ray.evaluate import harness, suite
from cpt_ray.evaluate.exam.items import write_exams
from cpt_ray.evaluate.known import PartKey
from cpt_ray.evaluate.per_item import read_document_scores
from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings, evaluate_model
from cpt_ray.model.layers import compiled
from cpt_ray.model.layers.fused import SEPARATE
from cpt_ray.records import EvalRecord, ExamItem
from tests.evaluate.own_tasks import write_own_tasks, write_task
from tests.evaluate.tiny import SEPARATOR, make_run

CONFIG = EvaluateConfig(held_out_documents=6, document_tokens=100, context=32, batch_tokens=256, precision="fp32")


def evaluate(tiny_folder, held_out, folder, *, run=None, prefix=SEPARATOR, keys=None, **changes):
    settings = {"exam_items": None, "config": CONFIG, "compare": CompareConfig(subsets=100), "parts": ("test",), **changes}
    known = {"known": keys and folder.parent / "scored", "keys": keys or {}}
    job = EvaluateJob(run or make_run(tiny_folder), tokenizer=tiny_folder, prefix=prefix, folder=folder, **known)
    return evaluate_model(job, EvaluateSettings(held_out, **settings))


@pytest.fixture
def quiz(tmp_path):
    path = tmp_path / "quiz.jsonl"
    lines = [{"question": f"Is {n} even?", "choices": ["yes", "no"], "answer": n % 2} for n in range(6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ExamConfig(name="quiz", path=str(path), label="a quiz")


def test_every_score_and_file_of_the_record_is_there(tiny_folder, held_out, tmp_path, quiz):
    config = CONFIG.model_copy(update={"exams": (quiz,)})
    write_exams(config.exams, tmp_path / "items")

    record = evaluate(tiny_folder, held_out, tmp_path / "out", config=config, exam_items=tmp_path / "items" / ExamItem.FILE)

    assert EvalRecord.load(tmp_path / "out" / "evaluation.json") == record
    assert [(score.source, score.role, score.part) for score in record.held_out] == [
        ("law", "domain", "test"),
        ("news", "general", "test"),
    ]
    for score in record.held_out:
        documents = read_document_scores(tmp_path / "out" / score.documents_path)
        assert len(documents) == score.documents == 6
        assert sum(document.nats for document in documents) == pytest.approx(score.nats)
        assert sum(document.bytes for document in documents) == score.scored_bytes
        assert sum(document.tokens for document in documents) == score.scored_tokens
        assert max(document.tokens for document in documents) <= 100
        assert score.bits_per_byte_interval is None  # six documents
    [exam] = record.exams
    assert (exam.task, exam.items, exam.chance) == ("quiz", 6, 0.5)
    assert (tmp_path / "out" / exam.items_path).is_file()
    assert (record.run, record.model, record.arm) == ("tiny-base", "tiny", None)


def test_documents_that_go_on_after_the_limit_are_counted(tiny_folder, held_out, tmp_path):
    record = evaluate(tiny_folder, held_out, tmp_path)
    longer = CONFIG.model_copy(update={"document_tokens": 10_000})
    whole = evaluate(tiny_folder, held_out, tmp_path / "whole", config=longer)

    for score, complete in zip(record.held_out, whole.held_out, strict=True):
        pairs = zip(
            *(read_document_scores(path / score.documents_path) for path in (tmp_path, tmp_path / "whole")), strict=True
        )
        goes_on = [cut.bytes < document.bytes for cut, document in pairs]
        assert score.cut_documents == sum(goes_on)
        assert [document.cut for document in read_document_scores(tmp_path / score.documents_path)] == goes_on
        assert complete.cut_documents == 0
    assert 0 < sum(score.cut_documents for score in record.held_out) < sum(score.documents for score in record.held_out)


@pytest.mark.gpu
def test_a_gpu_scores_with_fused_projections_and_gets_the_same_numbers(tiny_folder, held_out, tmp_path, monkeypatch):
    fused = []
    real = suite.fuse_projections
    monkeypatch.setattr(suite, "fuse_projections", lambda model: fused.append(real(model)))
    found = evaluate(tiny_folder, held_out, tmp_path / "fused")
    monkeypatch.setattr(suite, "fuse_projections", lambda _: None)
    plain = evaluate(tiny_folder, held_out, tmp_path / "plain")
    assert fused[0] != SEPARATE
    for one, other in zip(found.held_out, plain.held_out, strict=True):
        assert one.nats == pytest.approx(other.nats, rel=1e-5)


def test_the_same_model_scores_the_same_twice(tiny_folder, held_out, tmp_path):
    first = evaluate(tiny_folder, held_out, tmp_path / "a")
    second = evaluate(tiny_folder, held_out, tmp_path / "b")

    assert first.held_out == second.held_out


def test_compiled_layers_score_the_same_and_exams_get_the_model_back(tiny_folder, held_out, tmp_path, monkeypatch, quiz):
    def traced(forward):
        return torch.compile(forward, backend="aot_eager", dynamic=False, fullgraph=True)

    config = CONFIG.model_copy(update={"exams": (quiz,)})
    write_exams(config.exams, tmp_path / "items")
    settings = {"exam_items": tmp_path / "items" / ExamItem.FILE}
    plain = evaluate(tiny_folder, held_out, tmp_path / "plain", config=config, **settings)
    monkeypatch.setattr(compiled, "_compiled", traced)
    torch._dynamo.reset()  # another test's graphs would be reused
    graphs = counters["stats"]["unique_graphs"]
    config = config.model_copy(update={"compile": True})
    found = evaluate(tiny_folder, held_out, tmp_path / "compiled", config=config, **settings)
    assert counters["stats"]["unique_graphs"] == graphs + 1, "one shape for all passes over both sets, and none for exams"
    for one, other in zip(found.held_out, plain.held_out, strict=True):
        assert one.nats == pytest.approx(other.nats, rel=1e-5)
    assert found.exams[0].accuracy == plain.exams[0].accuracy


def test_parts_choose_what_is_scored(tiny_folder, held_out, tmp_path):
    record = evaluate(tiny_folder, held_out, tmp_path, parts=("validation", "test"))

    assert [(score.source, score.part) for score in record.held_out] == [
        ("law", "test"),
        ("law", "validation"),
        ("news", "test"),
    ]


def test_both_halves_are_scored_unless_it_is_said_otherwise(held_out):
    assert set(EvaluateSettings(held_out, None, CONFIG, CompareConfig()).parts) == {"test", "validation"}


def keys_of(*names, content="w"):
    return {name: PartKey(hashlib.sha256(f"{name} {content}".encode()).hexdigest(), {"part": name}) for name in names}


SETS = ("held_out/law-test", "held_out/news-test")


@pytest.fixture
def own(tmp_path):
    return write_own_tasks(tmp_path / "tasks")


@pytest.fixture
def counted(monkeypatch):
    """What is computed: `loaded`, a held-out set, an exam, a task."""
    found = []

    def count(place, name, said):
        real = getattr(place, name)

        def counting(*args, **settings):
            found.append(said(*args))
            return real(*args, **settings)

        monkeypatch.setattr(place, name, counting)

    count(suite, "load_model", lambda *_: "loaded")
    count(suite, "score_documents", lambda *_: "set")
    count(suite, "score_exam", lambda scorer, tokenizer, questions, exam: f"exam {exam.name}")
    count(harness, "score_harness_task", lambda lm, task, config: f"task {task.task}")
    return found


def test_what_is_known_is_not_computed_again_and_a_task_that_is_added_is_the_only_one(
    tiny_folder, held_out, tmp_path, quiz, own, counted
):
    config = CONFIG.model_copy(update={"exams": (quiz,), "harness_path": str(own), "exam_context": 64})
    write_exams(config.exams, tmp_path / "items")
    keys = keys_of(*SETS, "exam/quiz", "task/own_choice")
    rest = {"exam_items": tmp_path / "items" / ExamItem.FILE}

    first = evaluate(tiny_folder, held_out, tmp_path / "a", keys=keys, config=config, **rest)
    assert counted == ["loaded", "set", "set", "exam quiz"]
    counted.clear()
    added = config.model_copy(update={"harness_tasks": EvaluateConfig(harness_tasks=("own_choice",)).harness_tasks})
    second = evaluate(tiny_folder, held_out, tmp_path / "b", keys=keys, config=added, **rest)
    assert counted == ["loaded", "task own_choice"]
    counted.clear()
    surer = CompareConfig(subsets=100, confidence=0.8)
    third = evaluate(tiny_folder, held_out, tmp_path / "c", keys=keys, config=added, compare=surer, **rest)
    assert counted == []

    assert first.held_out == second.held_out
    assert second.exams[0] == first.exams[0]
    task = second.exams[1]
    assert (task.task, task.version) == ("own_choice", "1.0")
    assert (task.accuracy_interval.confidence, third.exams[1].accuracy_interval.confidence) == (0.95, 0.8)
    assert third.exams[1].accuracy == task.accuracy
    for record, folder in ((second, "b"), (third, "c")):
        for name in [*(one.documents_path for one in record.held_out), *(one.items_path for one in record.exams)]:
            assert (tmp_path / folder / name).read_bytes()
        assert (tmp_path / folder / "samples/own_choice.jsonl").is_file()
    other = keys_of(*SETS, "exam/quiz", "task/own_choice", content="of another export")
    evaluate(tiny_folder, held_out, tmp_path / "d", keys=other, config=config, **rest)
    assert counted == ["loaded", "set", "set", "exam quiz"]


def test_a_task_and_an_exam_that_fail_leave_the_rest_and_only_they_are_tried_again(
    tiny_folder, held_out, tmp_path, quiz, own, counted, caplog
):
    raising = {"doc_to_text": "Q: {{q}}", "doc_to_target": "{{a}}", "output_type": "loglikelihood"}
    row = [{"q": "it", "a": "it is said"}]
    write_task(own, "own_raising", row, **raising, process_results=f"!function {own.name}.judge")
    path = own / "own_raising.yaml"
    path.write_text(path.read_text().replace(f"'!function {own.name}.judge'", "!function judge.of"))
    (own / "judge.py").write_text("def of(doc, results):\n    raise RuntimeError('no such\\n  verdict')\n")
    broken = quiz.model_copy(update={"name": "broken"})
    tasks = EvaluateConfig(harness_tasks=("own_raising", "own_choice")).harness_tasks
    config = CONFIG.model_copy(
        update={"exams": (broken, quiz), "harness_tasks": tasks, "harness_path": str(own), "exam_context": 64}
    )
    write_exams((quiz,), tmp_path / "items")
    keys = keys_of(*SETS, "exam/broken", "exam/quiz", "task/own_raising", "task/own_choice")
    rest = {"exam_items": tmp_path / "items" / ExamItem.FILE, "config": config, "keys": keys}

    record = evaluate(tiny_folder, held_out, tmp_path / "a", **rest)

    assert [exam.task for exam in record.exams] == ["quiz", "own_choice"]
    assert len(record.held_out) == 2
    exam, task = record.failed
    assert (exam.run, exam.task, task.task) == ("tiny-base", "broken", "own_raising")
    assert exam.reason == "evaluate.exams broken: no items for this exam; found items for ['quiz']"
    assert "run `cpt-ray prepare` again" in exam.fix
    assert (task.reason, task.fix) == ("RuntimeError: no such verdict", "the log has the traceback")
    assert "tiny-base was not scored on own_raising" in caplog.text
    assert EvalRecord.of(tmp_path / "a") == record

    counted.clear()
    (own / "judge.py").write_text("def of(doc, results):\n    return {'acc': float(results[0][1])}\n")
    again = evaluate(tiny_folder, held_out, tmp_path / "a", **rest)
    assert counted == ["loaded", "exam broken", "task own_raising"]
    assert [one.task for one in again.failed] == ["broken"]
    assert [exam.task for exam in again.exams] == ["quiz", "own_raising", "own_choice"]
    assert (again.held_out, again.exams[0], again.exams[2]) == (record.held_out, *record.exams)


def test_a_part_that_no_set_has_is_an_error(tiny_folder, held_out, tmp_path):
    with pytest.raises(DataError, match="no held-out set has the part train"):
        evaluate(tiny_folder, held_out, tmp_path, parts=("train",))


def test_a_prefix_that_is_no_token_is_an_error(tiny_folder, held_out, tmp_path):
    with pytest.raises(ConfigError, match="'<eot>', the prefix of each document, is not a token of the tokenizer in"):
        evaluate(tiny_folder, held_out, tmp_path, prefix="<eot>")


def test_a_trunk_is_never_scored(tiny_folder, held_out, tmp_path):
    trunk = make_run(tiny_folder, run="m-legal-trunk-seed0", kind="trunk", export_path=None, annealed=False)
    with pytest.raises(ConfigError, match="run m-legal-trunk-seed0 has no export to score"):
        evaluate(tiny_folder, held_out, tmp_path, run=trunk)
