"""The suite: one call scores one export, and the files match the record."""

from __future__ import annotations

import json

import pytest
import torch
from torch._dynamo.utils import counters

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig, ExamConfig
from cpt_ray.errors import ConfigError, DataError
from cpt_ray.evaluate import suite
from cpt_ray.evaluate.exam.items import write_exams
from cpt_ray.evaluate.per_item import read_document_scores
from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings, evaluate_model
from cpt_ray.model.layers import compiled
from cpt_ray.model.layers.fused import SEPARATE
from cpt_ray.records import EvalRecord, ExamItem
from tests.evaluate.tiny import SEPARATOR, make_run

CONFIG = EvaluateConfig(held_out_documents=6, document_tokens=100, context=32, batch_tokens=256, precision="fp32")


def evaluate(tiny_folder, held_out, folder, *, run=None, prefix=SEPARATOR, **changes):
    settings = {"exam_items": None, "config": CONFIG, "compare": CompareConfig(subsets=100), **changes}
    job = EvaluateJob(run or make_run(tiny_folder), tokenizer=tiny_folder, prefix=prefix, folder=folder)
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
