"""The text of an exam question as a model sees it: cloze or letters, with answered examples before it.

In: items. Out: pairs of context and continuation, one per choice. Guarantee: the text is that of an lm-eval 0.4.13 task with
this prompt, its default delimiters and the same examples (`tests/evaluate/test_choices.py` runs both).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cpt_ray.records import ExamItem

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Style = Literal["cloze", "letter"]


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
