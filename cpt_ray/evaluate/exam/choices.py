"""The study's own multiple-choice exams: prompts, answers, scores. Needs no lm-eval.

In: a loaded model with document attention, exam items, examples. Out: per-item results as JSON lines.

Cloze form scores each choice as a continuation of the question: at 135M parameters that gives far more signal than letters,
which such models do not understand. Letter form lists the choices and scores their letters; its perplexity of the correct
letter is what Malaquias Junior et al. (2025) report, after Xia et al. (2023). Guarantee: the text is that of an lm-eval 0.4.13
task with this prompt, its default delimiters and the same examples (`tests/evaluate/test_choices.py` runs both).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.errors import DataError
from cpt_ray.evaluate.exam.items import LETTERS
from cpt_ray.evaluate.exam.scores import write_lines
from cpt_ray.evaluate.packed import Continuation, PackedScorer
from cpt_ray.evaluate.per_item import ScoredItem
from cpt_ray.records import ExamItem, ScoredTask, half_of

Style = Literal["cloze", "letter"]


class ExamQuestions(NamedTuple):
    """What the exams of a study ask, by exam."""

    items: dict[str, list[ExamItem]]
    examples: dict[str, list[ExamItem]]
    """What few-shot examples are taken from."""


def score_exam(
    scorer: PackedScorer,
    tokenizer: PreTrainedTokenizerBase,
    questions: ExamQuestions,
    exam: ExamConfig,
    *,
    prefix: int,
    folder: Path,
) -> ScoredTask:
    """Score an exam of the study.

    Args:
        scorer: The model.
        tokenizer: Its tokenizer.
        questions: Of the study's exams.
        exam: One of `evaluate.exams`.
        prefix: Token id that precedes a document; a question that begins with this token gets no other.
        folder: Evaluation folder; per-item results go to `exams/EXAM.jsonl` in it.

    Raises:
        DataError: If the exam has no items, an item more choices than there are letters, or a score is not finite.
    """
    items = questions.items.get(exam.name)
    if not items:
        raise DataError(
            f"evaluate.exams {exam.name}: no items for this exam; found items for {sorted(questions.items) or 'none'}",
            fix="run `cpt-ray prepare` again to rewrite the exam items",
        )
    most = max(len(item.choices) for item in items)
    if exam.style == "letter" and most > len(LETTERS):
        raise DataError(
            f"evaluate.exams {exam.name}: a question has {most} choices, there are {len(LETTERS)} letters",
            fix="set style: cloze",
        )
    lines, cut = _score_items(scorer, tokenizer, items, questions.examples.get(exam.name, []), exam, tokenizer.decode(prefix))
    return ScoredTask(
        task=exam.name,
        items_path=write_lines(exam.name, lines, folder),
        style=exam.style,
        few_shot=exam.few_shot,
        cut_items=cut,
        chance=sum(1 / len(line.log_p) for line in lines) / len(lines),
    )


def _score_items(
    scorer: PackedScorer,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[ExamItem],
    examples: Sequence[ExamItem],
    exam: ExamConfig,
    bos: str,
) -> tuple[list[ScoredItem], int]:
    """Score items in all the orders that are asked for; also return how many prompts had to be cut."""
    # Orders beyond the number of choices would repeat the first ones.
    asked = [[reordered(item, by) for by in range(min(exam.permutations, len(item.choices) - 1) + 1)] for item in items]
    requests = [
        _encode(tokenizer, prompt(one, choose_examples(one, examples, exam.few_shot), exam.style), answer, bos)
        for orders in asked
        for one in orders
        for answer in continuations(one, exam.style)
    ]
    answers = iter(scorer.score(requests))
    cut = {
        item
        for (item, _), request in zip(
            ((number, one) for number, orders in enumerate(asked) for order in orders for one in order.choices),
            requests,
            strict=True,
        )
        if len(request.context) + len(request.continuation) > scorer.max_length + 1
    }
    lines = []
    for item, orders in zip(items, asked, strict=True):
        found = [tuple(next(answers).log_p for _ in one.choices) for one in orders]
        lines.append(_scored(item, orders, found, exam))
    return lines, len(cut)


def _encode(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str, bos: str) -> Continuation:
    """Encode as lm-eval does: the continuation's tokens are those of the whole text beyond the context's."""
    special = {"add_special_tokens": False} if bos and context.startswith(bos) else {}
    whole, first = tokenizer.encode(context + continuation, **special), tokenizer.encode(context, **special)
    return Continuation(first, whole[len(first) :])


def _scored(item: ExamItem, orders: Sequence[ExamItem], log_p: Sequence[tuple[float, ...]], exam: ExamConfig) -> ScoredItem:
    lengths = [len(choice) for choice in item.choices] if exam.style == "cloze" else [1] * len(item.choices)
    normed = [value / length for value, length in zip(log_p[0], lengths, strict=True)]
    chosen = [values.index(max(values)) for values in log_p]
    right = [float(place == one.right_choice) for place, one in zip(chosen, orders, strict=True)]
    # By place and not by text, which two choices may share: place p of an order rotated by r was place p + r.
    original = {(place + by) % len(item.choices) for by, place in enumerate(chosen)}
    return ScoredItem(
        id=item.id,
        accuracy=right[0],
        accuracy_norm=float(normed.index(max(normed)) == item.right_choice),
        log_p=log_p[0],
        right=item.right_choice,
        group=item.group,
        half=half_of(item.task, item.id),
        order_accuracy=sum(right) / len(right) if len(orders) > 1 else None,
        order_changes=float(len(original) > 1) if len(orders) > 1 else None,
    )


def choose_examples(item: ExamItem, examples: Sequence[ExamItem], count: int) -> list[ExamItem]:
    """The examples before an item: of its own group where there are enough, else the first of all."""
    of_group = [example for example in examples if example.group == item.group]
    return list((of_group if len(of_group) >= count else examples)[:count])


def prompt(item: ExamItem, examples: Sequence[ExamItem], style: Style) -> str:
    """What precedes the answer: the examples with theirs, then the question."""
    answered = [_question(one, style) + _answers(one, style)[one.right_choice] for one in examples]
    return "\n\n".join([*answered, _question(item, style)])


def continuations(item: ExamItem, style: Style) -> list[str]:
    """What is scored after the prompt, one per choice."""
    return _answers(item, style)


def reordered(item: ExamItem, by: int) -> ExamItem:
    """The item with its choices rotated: choice `i` moves to place `i - by`."""
    places = [(place + by) % len(item.choices) for place in range(len(item.choices))]
    choices = tuple(item.choices[place] for place in places)
    return item.model_copy(update={"choices": choices, "answer": places.index(item.right_choice)})


def _question(item: ExamItem, style: Style) -> str:
    if style == "cloze":
        return f"Question: {item.question}\nAnswer:"
    listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, item.choices, strict=False))
    return f"Question: {item.question}{listed}\nAnswer:"


def _answers(item: ExamItem, style: Style) -> list[str]:
    return [f" {text}" for text in (item.choices if style == "cloze" else LETTERS[: len(item.choices)])]
