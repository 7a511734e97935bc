"""The `evaluate` and `compare` sections: exams with a label, and the bounds of judging."""

import pytest

from cpt_ray.config.load import parse_study
from tests.config.spoiled import refusal, spoil

EXAM = {"name": "bar", "path": "bar.jsonl", "label": "the bar exam"}


def test_an_exam_has_a_format_and_no_limit_unless_it_says_so(tree):
    (exam,) = parse_study(spoil(tree, "evaluate.exams", [EXAM]), place="study.yaml").evaluate.exams
    assert (exam.format, exam.limit) == ("jsonl", None)


@pytest.mark.parametrize(
    ("exam", "message"),
    [
        ({"name": "Bar exam"}, "evaluate.exams.0.name: a name has only the letters"),
        ({"limit": 0}, "evaluate.exams.0.limit: Input should be greater than or equal to 1, saw 0"),
        ({"format": "csv"}, "evaluate.exams.0.format: Input should be 'jsonl' or 'mmlu_flan_cot', saw 'csv'"),
    ],
)
def test_a_wrong_exam_is_refused(tree, exam, message):
    assert message in refusal(spoil(tree, "evaluate.exams", [EXAM | exam]))


@pytest.mark.parametrize("confidence", [0.5, 1])
def test_a_level_of_a_half_or_of_one_is_not_an_interval(tree, confidence):
    assert "study.yaml: compare.confidence: Input should be" in refusal(spoil(tree, "compare.confidence", confidence))


def test_a_bootstrap_has_at_least_a_hundred_samples(tree):
    parse_study(spoil(tree, "compare.subsets", 100), place="study.yaml")
    assert "compare.subsets: Input should be greater than or equal to 100" in refusal(spoil(tree, "compare.subsets", 99))
