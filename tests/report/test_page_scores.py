"""Scores on the page: documents that were cut, and what exams of one's own show."""

from dataclasses import replace

import pytest

from cpt_ray.records import EvalRecord
from cpt_ray.report.page import render_report
from cpt_ray.report.wording import MINUS
from tests.report.made_up import make_contents


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(make_contents())


def changed(**scores: dict[str, object]) -> str:
    """The page with other values in each score of these fields."""
    contents = make_contents()

    def change(record: EvalRecord) -> EvalRecord:
        found = {name: tuple(one.model_copy(update=fields) for one in getattr(record, name)) for name, fields in scores.items()}
        return record.model_copy(update=found)

    evals = tuple(map(change, contents.evals))
    return render_report(replace(contents, evals=evals))


def test_documents_of_which_only_the_beginning_is_scored_are_counted(page):
    found = changed(held_out={"cut_documents": 7})
    assert "<small>7 cut</small>" in found
    assert "only their beginning is scored" in found
    assert "only their beginning is scored" not in page


def test_letters_orders_groups_and_cut_prompts_of_an_exam_are_shown(page):
    fields = {"style": "letter", "few_shot": 5, "groups": 12, "cut_items": 3, "letter_perplexity": 4.56, "margin": -0.78}
    found = changed(exams={**fields, "order_changes": 0.321, "order_accuracy": 0.234})
    for words in ("letter form, 5 examples, 12 groups", "3 prompts cut at", "4.56", f"{MINUS}0.78", "32.1", "23.4"):
        assert words in found
    assert "perplexity of the letter" not in page
    assert "changes with the order" not in page
