"""The harness: packed requests against lm-eval's Hugging Face model, tasks end to end, and errors."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from lm_eval.api.instance import Instance

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.errors import ConfigError
from cpt_ray.evaluate import harness
from cpt_ray.evaluate.harness import PackedLM, score_harness_tasks
from tests.evaluate.tiny import SENTENCES, build_model, make_items


def make_requests() -> list[Instance]:
    pairs = [(item.question, " " + choice) for item in make_items(9) for choice in item.choices]
    pairs += [("", "no context at all"), ("x " * 200, " cut from the left"), ("short", " a"), ("short", " b")]
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


@pytest.mark.parametrize("batch_tokens", [1, 90, 4096])
def test_packed_requests_score_like_lm_evals_padded_batches(model, tokenizer, reference, batch_tokens):
    packed = PackedLM(model, tokenizer, prefix=0, max_length=64, batch_tokens=batch_tokens)
    requests = make_requests()
    theirs = reference.loglikelihood(requests, disable_tqdm=True)

    ours = packed.loglikelihood(requests, disable_tqdm=True)

    assert [nats for nats, _ in ours] == pytest.approx([nats for nats, _ in theirs], rel=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_greedy_continuations_are_recognized(model, tokenizer):
    context = tokenizer("The licensee may")["input_ids"]
    written = list(context)
    plain = build_model(len(tokenizer))
    with torch.no_grad():
        for _ in range(3):
            written.append(int(plain(torch.tensor([written])).logits[0, -1].argmax()))
    packed = PackedLM(model, tokenizer, prefix=0, max_length=64, batch_tokens=64)

    answers = packed._loglikelihood_tokens([(None, context, written[-3:]), (None, context, [1, 2, 3])])

    assert [greedy for _, greedy in answers] == [True, False]


def test_rolling_log_likelihood_through_the_packed_model_is_the_same_too(model, tokenizer, reference):
    packed = PackedLM(model, tokenizer, prefix=0, max_length=64, batch_tokens=256)
    requests = [Instance("loglikelihood_rolling", {}, (" ".join(SENTENCES) * 3,), 0)]

    assert packed.loglikelihood_rolling(requests, disable_tqdm=True) == pytest.approx(
        reference.loglikelihood_rolling(requests, disable_tqdm=True), rel=1e-4
    )


def test_generation_leaves_document_attention_for_its_own_calls_only(model, tokenizer, reference):
    packed = PackedLM(model, tokenizer, prefix=0, max_length=64, batch_tokens=256)
    requests = [Instance("generate_until", {}, ("The licensee", {"until": ["\n"], "max_gen_toks": 5}), 0)]

    assert packed.generate_until(requests, disable_tqdm=True) == reference.generate_until(requests, disable_tqdm=True)
    assert model.config._attn_implementation == "document"


def test_an_unknown_harness_task_is_named(model, tokenizer, tmp_path):
    config = EvaluateConfig(harness_tasks=("no_such_task",))
    with pytest.raises(ConfigError, match=r"evaluate\.harness_tasks names 'no_such_task', which the installed lm-eval does"):
        score_harness_tasks(model, tokenizer, prefix=0, config=config, compare=CompareConfig(), folder=tmp_path)


def test_a_harness_task_whose_data_is_not_here_says_so(model, tokenizer, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'ibm/piqa' on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    config = EvaluateConfig(harness_tasks=("piqa",))
    with pytest.raises(ConfigError, match=r"harness_tasks piqa: lm-eval could not run them: Couldn't reach") as caught:
        score_harness_tasks(model, tokenizer, prefix=0, config=config, compare=CompareConfig(), folder=tmp_path)
    assert "HF_HOME" in caught.value.fix
    assert "more" not in caught.value.problem


def test_a_harness_task_by_name_is_scored_under_its_own_name_and_prints_nothing(
    model, tokenizer, tmp_path, monkeypatch, capsys, caplog
):
    import datasets

    rows = [{"goal": f"open door {n}", "sol1": "turn the knob", "sol2": "eat it", "label": n % 2} for n in range(4)]
    data = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split in ("train", "validation")})
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: data)
    config = EvaluateConfig(harness_tasks=("piqa",), exam_context=64)

    [score] = score_harness_tasks(model, tokenizer, prefix=0, config=config, compare=CompareConfig(), folder=tmp_path)

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [record for record in caplog.records if record.name.startswith("lm_eval")] == []
    assert (score.task, score.label, score.items, score.chance) == ("piqa", "piqa", 4, 0.5)
    assert len((tmp_path / score.items_path).read_text().splitlines()) == 4


def write_own_task(folder, name, rows, **description):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"test": str(folder / f"{name}.jsonl")}
    task = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": data, "cache_dir": str(folder / "cache")}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**task, "test_split": "test", **description}))


@pytest.fixture
def own_tasks(tmp_path):
    """Two custom task files, one with numbered choices and one with a free answer, and a group of both."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    choices = {"doc_to_text": "Q: {{q}}", "doc_to_choice": "{{options}}", "doc_to_target": "right"}
    rows = [{"id": f"own-{n}", "q": f"What is {n}?", "options": [f"no {n}", f"yes {n}"], "right": n % 2} for n in range(3)]
    write_own_task(folder, "own_choice", rows, output_type="multiple_choice", metric_list=[{"metric": "acc"}], **choices)
    free = {"doc_to_text": "Say {{q}}", "doc_to_target": "{{a}}", "output_type": "loglikelihood"}
    write_own_task(folder, "own_free", [{"q": "it", "a": "it is said"}], metric_list=[{"metric": "acc"}], **free)
    (folder / "own_group.yaml").write_text(yaml.safe_dump({"group": "own_group", "task": ["own_choice", "own_free"]}))
    return folder


def test_the_items_of_harness_tasks_are_their_questions_and_the_text_of_the_right_answers(own_tasks):
    found = harness.task_items(("own_group",), str(own_tasks))
    assert [(item.task, item.id, item.question, item.answer) for item in found] == [
        ("own_choice", "own-0", "Q: What is 0?", "no 0"),
        ("own_choice", "own-1", "Q: What is 1?", "yes 1"),
        ("own_choice", "own-2", "Q: What is 2?", "no 2"),
        ("own_free", "0", "Say it", "it is said"),
    ]


def test_items_of_a_task_that_cannot_be_had_say_what_to_run(monkeypatch):
    with pytest.raises(ConfigError, match=r"prepare\.decontaminate\.tasks names 'no_such', which the installed lm-eval does"):
        harness.task_items(("no_such",), None)

    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'ibm/piqa' on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(ConfigError, match=r"tasks piqa: lm-eval could not load them: Couldn't reach") as caught:
        harness.task_items(("piqa",), None)
    assert "cpt-ray fetch-tasks" in caught.value.fix


def test_a_task_without_accuracy_is_refused(tmp_path):
    results = {"samples": {"gsm8k": [{"doc_id": 0, "exact_match": 1.0}]}, "configs": {"gsm8k": {}}}
    with pytest.raises(ConfigError, match=r"harness_tasks gsm8k: it does not report accuracy per item"):
        harness._harness_score("gsm8k", results, CompareConfig(), tmp_path)
