"""Prompts, word by word."""

from __future__ import annotations

import pytest

from cpt_ray.evaluate.exam.choices import choose_examples, continuations, prompt, reordered
from cpt_ray.records import ExamItem

ITEM = ExamItem(task="quiz", id="q", question="Which?", choices=("this", "that", "none"), answer="B", group="law")
EXAMPLE = ExamItem(task="quiz", id="e", question="Who?", choices=("he", "she"), answer=1, group="tax")


def test_a_cloze_prompt_ends_where_the_choices_begin():
    assert prompt(ITEM, [EXAMPLE], "cloze") == "Question: Who?\nAnswer: she\n\nQuestion: Which?\nAnswer:"
    assert continuations(ITEM, "cloze") == [" this", " that", " none"]


def test_a_letter_prompt_lists_the_choices():
    assert prompt(ITEM, [EXAMPLE], "letter") == (
        "Question: Who?\nA. he\nB. she\nAnswer: B\n\nQuestion: Which?\nA. this\nB. that\nC. none\nAnswer:"
    )
    assert continuations(ITEM, "letter") == [" A", " B", " C"]


@pytest.mark.parametrize(
    ("by", "choices"), [(0, ("this", "that", "none")), (1, ("that", "none", "this")), (2, ("none", "this", "that"))]
)
def test_another_order_keeps_the_correct_choice(by, choices):
    found = reordered(ITEM, by)
    assert found.choices == choices
    assert found.answer_text == "that"


def test_examples_come_from_the_group_where_it_has_enough():
    law = [EXAMPLE.model_copy(update={"id": f"l{n}", "group": "law"}) for n in range(2)]
    pool = [EXAMPLE, *law]
    assert choose_examples(ITEM, pool, 2) == law
    assert choose_examples(ITEM, pool, 3) == pool
    assert choose_examples(ITEM, pool, 0) == []
