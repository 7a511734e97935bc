"""The study's own exams: item by item, and the same numbers as lm-eval's task of this form."""

from __future__ import annotations

import math

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from transformers import PreTrainedTokenizerFast

from cpt_ray.config.sections.evaluate import CompareConfig, ExamConfig
from cpt_ray.errors import DataError
from cpt_ray.evaluate import packed
from cpt_ray.evaluate.exam.choices import ExamQuestions, score_exam
from cpt_ray.evaluate.exam.scores import exam_score
from cpt_ray.evaluate.packed import Answer, Continuation, PackedScorer
from cpt_ray.evaluate.per_item import read_item_scores
from cpt_ray.records import ExamItem, ExamScore, half_of, write_items
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


COMPARE = CompareConfig(subsets=400)


def scored_exam(scorer, tokenizer, questions, exam, folder) -> ExamScore:
    scored = score_exam(scorer, tokenizer, questions, exam, prefix=0, folder=folder)
    return exam_score(scored, read_item_scores(folder / scored.items_path), COMPARE, label=exam.label)


def score_quiz(
    model, tokenizer, items: list[ExamItem], folder, *, max_length: int = 64, exam: ExamConfig = QUIZ, examples=()
) -> list[ExamScore]:
    scorer = PackedScorer(model, max_length=max_length, batch_tokens=512)
    questions = ExamQuestions({"quiz": items}, {"quiz": list(examples)})
    return [scored_exam(scorer, tokenizer, questions, exam, folder)]


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


def lm_eval_samples(reference, items: list[ExamItem], folder, **description):
    """What lm-eval makes of the same items under a task of this description."""
    (folder / "quiz.jsonl").write_text(write_items(items), encoding="utf-8")
    files = {"test": str(folder / "quiz.jsonl")}
    if (folder / "pool.jsonl").is_file():
        files["train"] = str(folder / "pool.jsonl")
    data = {"data_files": files, "cache_dir": str(folder / "cache")}
    (folder / "quiz.yaml").write_text(yaml.safe_dump({**TASK, "dataset_kwargs": data, **description}))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    theirs = simple_evaluate(model=reference, tasks=["quiz"], task_manager=manager, bootstrap_iters=0, log_samples=True)
    return sorted(theirs["samples"]["quiz"], key=lambda sample: sample["doc_id"])


def assert_same(lines, samples) -> None:
    assert len(lines) == len(samples)
    for line, sample in zip(lines, samples, strict=True):
        assert line.log_p == pytest.approx([response[0] for response in sample["filtered_resps"]], rel=1e-4), line.id
    assert [(line.accuracy, line.accuracy_norm) for line in lines] == [(s["acc"], s["acc_norm"]) for s in samples]


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_an_exam_has_the_numbers_of_lm_evals_task_of_the_same_form(model, tokenizer, reference, tmp_path, monkeypatch, bos):
    items = [*make_items(7), *ODD]
    encoder = with_bos(tokenizer) if bos else tokenizer
    monkeypatch.setattr(reference, "tokenizer", encoder)
    samples = lm_eval_samples(reference, items, tmp_path)

    [score] = score_quiz(model, encoder, items, tmp_path)

    lines = read_item_scores(tmp_path / score.items_path)
    assert [line.id for line in lines] == [sample["doc"]["id"] for sample in samples] == [item.id for item in items]
    assert_same(lines, samples)
    texts = [(f"Question: {item.question}\nAnswer:", [f" {choice}" for choice in item.choices]) for item in items]
    longest = [max(len(encoder.encode(question + answer)) for answer in answers) for question, answers in texts]
    assert score.cut_items == sum(length > 65 for length in longest) > 0
    assert (encoder.encode("a")[0] == 0) is bos


LISTED = "Question: {{question}}{% for choice in choices %}\n{{'ABCDEFGHIJ'[loop.index0]}}. {{choice}}{% endfor %}\nAnswer:"
LETTERED = {"doc_to_text": LISTED, "doc_to_choice": "{{['A', 'B', 'C', 'D'][:choices|length]}}"}


@pytest.mark.parametrize(("style", "description"), [("cloze", {}), ("letter", LETTERED)])
def test_examples_and_letters_have_the_numbers_of_lm_evals_task_of_the_same_form(
    model, tokenizer, reference, tmp_path, style, description
):
    pool = [
        item.model_copy(update={"id": f"pool-{item.id}", "question": f"Is it so? {item.question}"}) for item in make_items(2)
    ]
    items = make_items(8)
    (tmp_path / "pool.jsonl").write_text(write_items(pool), encoding="utf-8")
    samples = lm_eval_samples(
        reference, items, tmp_path, num_fewshot=2, training_split="train", fewshot_split="train",
        fewshot_config={"sampler": "first_n"}, **description,
    )  # fmt: skip
    exam = QUIZ.model_copy(update={"style": style, "few_shot": 2})

    [score] = score_quiz(model, tokenizer, items, tmp_path, exam=exam, examples=pool)

    lines = read_item_scores(tmp_path / score.items_path)
    assert_same(lines, samples)
    assert (score.style, score.few_shot) == (style, 2)


def test_letters_give_the_perplexity_of_the_correct_one_and_its_margin(model, tokenizer, tmp_path):
    items = make_items(30)

    [score] = score_quiz(model, tokenizer, items, tmp_path, max_length=256, exam=QUIZ.model_copy(update={"style": "letter"}))

    lines = read_item_scores(tmp_path / score.items_path)
    right = [line.log_p[item.right_choice] for item, line in zip(items, lines, strict=True)]
    best_other = [
        max(value for place, value in enumerate(line.log_p) if place != item.right_choice)
        for item, line in zip(items, lines, strict=True)
    ]
    assert score.letter_perplexity == pytest.approx(math.exp(-sum(right) / 30))
    assert score.margin == pytest.approx(sum(one - other for one, other in zip(right, best_other, strict=True)) / 30)
    for value, interval in (
        (score.letter_perplexity, score.letter_perplexity_interval),
        (score.margin, score.margin_interval),
        (score.accuracy, score.accuracy_interval),
    ):
        assert interval.low < value < interval.high
        assert interval.kind == "over items"
    [cloze] = score_quiz(model, tokenizer, items, tmp_path / "cloze")
    assert cloze.letter_perplexity is None
    assert cloze.margin is not None


def test_an_answer_that_follows_the_letter_and_not_the_choice_changes_with_the_order(model, tokenizer, tmp_path):
    class AlwaysB(PackedScorer):
        """A model that answers with the second letter, whatever it stands for."""

        def score(self, requests):
            b = tokenizer.encode(" B")
            return [Answer(-0.1 if one.continuation == b else -5.0, greedy=False) for one in requests]

    items = [item for item in make_items(12) if len(item.choices) == 3]
    exam = QUIZ.model_copy(update={"style": "letter", "permutations": 9})
    questions = ExamQuestions({"quiz": items}, {})

    scorer = AlwaysB(model, max_length=256, batch_tokens=512)
    score = scored_exam(scorer, tokenizer, questions, exam, tmp_path)

    assert score.order_changes == 1.0
    assert score.order_accuracy == pytest.approx(1 / 3)  # in three orders, each choice is second once
    assert score.accuracy == sum(item.right_choice == 1 for item in items) / len(items)
    [once] = score_quiz(model, tokenizer, items, tmp_path, exam=exam.model_copy(update={"permutations": 0}))
    assert (once.order_changes, once.order_accuracy) == (None, None)


def test_an_answer_that_follows_the_choice_does_not_change_with_the_order(model, tokenizer, tmp_path):
    items = [item.model_copy(update={"choices": ("so", "no"), "answer": 0}) for item in make_items(4)]
    exam = QUIZ.model_copy(update={"style": "letter", "permutations": 1})

    class AlwaysSo(PackedScorer):
        def score(self, requests):
            def right(one) -> bool:
                listed = tokenizer.decode(one.context)
                return f"{tokenizer.decode(one.continuation).strip()}. so" in listed

            return [Answer(-0.1 if right(one) else -5.0, greedy=False) for one in requests]

    scorer = AlwaysSo(model, max_length=256, batch_tokens=512)
    score = scored_exam(scorer, tokenizer, ExamQuestions({"quiz": items}, {}), exam, tmp_path)

    assert (score.accuracy, score.order_accuracy, score.order_changes) == (1.0, 1.0, 0.0)


def test_groups_are_the_units_of_the_intervals(model, tokenizer, tmp_path):
    items = make_items(60)
    grouped = [item.model_copy(update={"group": f"subject {number % 12}"}) for number, item in enumerate(items)]
    few = [item.model_copy(update={"group": f"subject {number % 3}"}) for number, item in enumerate(items)]

    [alone] = score_quiz(model, tokenizer, items, tmp_path)
    [by_group] = score_quiz(model, tokenizer, grouped, tmp_path)
    [too_few] = score_quiz(model, tokenizer, few, tmp_path)

    assert by_group.accuracy == alone.accuracy == too_few.accuracy
    assert (alone.groups, by_group.groups, too_few.groups) == (0, 12, 3)
    assert by_group.accuracy_interval.kind == "over groups of items"
    assert by_group.accuracy_interval != alone.accuracy_interval
    assert too_few.accuracy_interval is None


def test_each_half_has_its_own_score_and_the_halves_are_the_whole(model, tokenizer, tmp_path):
    items = make_items(24)

    [score] = score_quiz(model, tokenizer, items, tmp_path)

    validation, test = score.halves
    assert (validation.half, test.half) == ("validation", "test")
    assert validation.items + test.items == 24
    assert min(validation.items, test.items) > 4
    assert (validation.items * validation.accuracy + test.items * test.accuracy) / 24 == pytest.approx(score.accuracy)
    lines = read_item_scores(tmp_path / score.items_path)
    assert [line.half for line in lines] == [half_of("quiz", item.id) for item in items]


@pytest.mark.accept(answer=2)
def test_a_score_that_is_not_finite_is_an_error(model, tokenizer, tmp_path):
    class Broken(PackedScorer):
        def score(self, requests):
            return [Answer(math.nan, greedy=False) for _ in requests]

    scorer = Broken(model, max_length=64, batch_tokens=64)
    with pytest.raises(DataError, match=r"exam quiz: item 'q0' scored \[nan, nan\] nats") as caught:
        scored_exam(scorer, tokenizer, ExamQuestions({"quiz": make_items(2)}, {}), QUIZ, tmp_path)
    assert "the weights contain NaN" in caught.value.fix


def test_more_choices_than_letters_is_an_error(model, tokenizer, tmp_path):
    items = [make_items(1)[0].model_copy(update={"choices": tuple(map(str, range(27)))})]
    with pytest.raises(DataError, match=r"evaluate\.exams quiz: a question has 27 choices, there are 26 letters"):
        score_quiz(model, tokenizer, items, tmp_path, exam=QUIZ.model_copy(update={"style": "letter"}))


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
    scorer = PackedScorer(model, max_length=64, batch_tokens=64)
    with pytest.raises(DataError, match=r"evaluate\.exams quiz: no items for this exam; found items for \['other'\]"):
        scored_exam(scorer, tokenizer, ExamQuestions({"other": make_items(1)}, {}), QUIZ, tmp_path)
