"""The study's own exams: item by item, and the same numbers as lm-eval's task of this form."""

from __future__ import annotations

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from transformers import PreTrainedTokenizerFast

from cpt_ray.config.sections.evaluate import EvaluateConfig, ExamConfig
from cpt_ray.errors import DataError
from cpt_ray.evaluate import packed
from cpt_ray.evaluate.choices import Continuation, PackedScorer, score_exams
from cpt_ray.evaluate.per_item import read_item_scores
from cpt_ray.records import ExamItem, ExamScore, write_items
from tests.evaluate.tiny import SEPARATOR, build_tokenizer, make_items

QUIZ = ExamConfig(name="quiz", path="quiz.jsonl", label="a quiz of the tests")
TASK = {
    "task": "quiz",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "target_delimiter": " ",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
}
"""What an exam is, written as an lm-eval task."""


def score_quiz(model, tokenizer, items: list[ExamItem], folder, *, max_length: int = 64) -> tuple[ExamScore, ...]:
    scorer = PackedScorer(model, max_length=max_length, batch_tokens=512)
    return score_exams(scorer, tokenizer, {"quiz": items}, prefix=0, config=EvaluateConfig(exams=(QUIZ,)), folder=folder)


def test_an_exam_is_scored_item_by_item(model, tokenizer, reference, tmp_path):
    items = make_items(11)

    [score] = score_quiz(model, tokenizer, items, tmp_path)

    lines = read_item_scores(tmp_path / score.items_path)
    assert [line.id for line in lines] == [item.id for item in items]
    expected_acc, expected_norm = [], []
    for item, line in zip(items, lines, strict=True):
        requests = [
            Instance("loglikelihood", {}, (f"Question: {item.question}\nAnswer:", f" {choice}"), 0) for choice in item.choices
        ]
        log_p = [value for value, _ in reference.loglikelihood(requests, disable_tqdm=True)]
        assert line.log_p == pytest.approx(log_p, rel=1e-4)
        normed = [value / len(choice) for value, choice in zip(log_p, item.choices, strict=True)]
        expected_acc.append(float(log_p.index(max(log_p)) == item.answer))
        expected_norm.append(float(normed.index(max(normed)) == item.answer))
    assert [line.accuracy for line in lines] == expected_acc
    assert [line.accuracy_norm for line in lines] == expected_norm
    mean = sum(expected_acc) / 11
    assert 0 < mean < 1
    assert score.accuracy == pytest.approx(mean)
    assert score.accuracy_stderr == pytest.approx((mean * (1 - mean) / 10) ** 0.5)
    assert score.chance == pytest.approx(sum(1 / len(item.choices) for item in items) / 11)
    assert (score.task, score.label, score.items) == ("quiz", "a quiz of the tests", 11)


def with_bos(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokenizer, adding its first token to every text."""
    from tokenizers.processors import TemplateProcessing

    changed = build_tokenizer()
    changed.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{SEPARATOR} $A", special_tokens=[(SEPARATOR, tokenizer.get_vocab()[SEPARATOR])]
    )
    return changed


ODD = [
    ExamItem(task="quiz", id="quoted", question='It\'s "so"? {{x}} {% raw %}', choices=("It's", 'a "b"', "[c]"), answer=1),
    ExamItem(task="quiz", id="begins", question="starts with a space ", choices=("  two spaces", "trailing "), answer=0),
    ExamItem(task="quiz", id="long", question="word " * 90, choices=("yes " * 9, "no"), answer=1),
    ExamItem(task="quiz", id="foreign", question="\u6771\u4eac\uff1f", choices=("\u00fcber", "\u20ac"), answer=0),
]


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_an_exam_has_the_numbers_of_lm_evals_task_of_the_same_form(model, tokenizer, reference, tmp_path, monkeypatch, bos):
    items = [*make_items(7), *ODD]
    (tmp_path / "quiz.jsonl").write_text(write_items(items), encoding="utf-8")
    data = {"data_files": {"test": str(tmp_path / "quiz.jsonl")}, "cache_dir": str(tmp_path / "cache")}
    (tmp_path / "quiz.yaml").write_text(yaml.safe_dump({**TASK, "dataset_kwargs": data}))
    encoder = with_bos(tokenizer) if bos else tokenizer
    monkeypatch.setattr(reference, "tokenizer", encoder)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    theirs = simple_evaluate(model=reference, tasks=["quiz"], task_manager=manager, bootstrap_iters=0, log_samples=True)

    [score] = score_quiz(model, encoder, items, tmp_path)

    samples = sorted(theirs["samples"]["quiz"], key=lambda sample: sample["doc_id"])
    lines = read_item_scores(tmp_path / score.items_path)
    assert [line.id for line in lines] == [sample["doc"]["id"] for sample in samples] == [item.id for item in items]
    for line, sample in zip(lines, samples, strict=True):
        assert line.log_p == pytest.approx([response[0] for response in sample["filtered_resps"]], rel=1e-4), line.id
    assert [(line.accuracy, line.accuracy_norm) for line in lines] == [(s["acc"], s["acc_norm"]) for s in samples]
    assert (encoder.encode("a")[0] == 0) is bos


def test_a_context_that_leaves_no_room_is_cut_from_the_left(model):
    scorer = PackedScorer(model, max_length=8, batch_tokens=64)
    context = list(range(40, 80))
    cut, short, other = scorer.score([Continuation(part, [9, 9]) for part in (context, context[-7:], context[-6:])])
    assert cut == short != other


def test_requests_with_the_same_inputs_are_computed_once_and_keep_their_own_answers(model, monkeypatch):
    rows = []
    real = packed.hidden_states
    monkeypatch.setattr(packed, "hidden_states", lambda model, ids, lengths: rows.append(lengths) or real(model, ids, lengths))
    scorer = PackedScorer(model, max_length=64, batch_tokens=64)
    requests = [Continuation([5, 6, 7], [letter]) for letter in (8, 9, 10)] + [Continuation([5], [6, 7, 11])]

    together = scorer.score(requests)

    assert rows == [[3]]
    alone = [scorer.score([request])[0] for request in requests]
    assert [answer.log_p for answer in together] == pytest.approx([answer.log_p for answer in alone], rel=1e-5)
    assert [answer.greedy for answer in together] == [answer.greedy for answer in alone]
    assert len({answer.log_p for answer in together}) == 4


def test_an_exam_without_items_is_an_error(model, tokenizer, tmp_path):
    scorer, config = PackedScorer(model, max_length=64, batch_tokens=64), EvaluateConfig(exams=(QUIZ,))
    with pytest.raises(DataError, match=r"evaluate\.exams quiz: no items for this exam; found items for \['other'\]"):
        score_exams(scorer, tokenizer, {"other": make_items(1)}, prefix=0, config=config, folder=tmp_path)
