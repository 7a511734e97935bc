"""What two runs share is compared; what they do not share, or were not scored on alike, is refused with its reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpt_ray.compare.across import PERPLEXITY, Contender, pair
from cpt_ray.compare.deltas import Cell, Scored
from cpt_ray.records import EvalRecord
from tests.compare.conftest import Laboratory
from tests.study.findings.finished_scores import SETTINGS


def contender(laboratory: Laboratory, record: EvalRecord, name: str, **settings: Any) -> Contender:
    cell = Cell(name, record.arm, record.budget_tokens, (Scored(record, laboratory.folders[record.run]),))
    return Contender(name, cell, {**SETTINGS, **settings}, {"smoke": "what was asked"})


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Contender, Contender]:
    found = []
    for name, law, noise in (("first", 1.0, 1e-4), ("second", 0.9, 3e-4)):
        laboratory = Laboratory(tmp_path / name)
        found.append(contender(laboratory, laboratory.add("legal", 100, law=law, noise=noise, right=20), name))
    return found[1], found[0]


def rewrite(one: Contender, file: str, change: Any) -> None:
    """Change every line of a score file, and leave the sums of its record as they are."""
    path = one.cell.scored[0].folder / file
    lines = [change(number, json.loads(line)) for number, line in enumerate(path.read_text(encoding="utf-8").splitlines())]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def sets_of(found) -> set[str]:
    return {delta.set_name for delta in found.deltas}


def test_all_that_is_shared_is_compared_and_judged_together(pairs):
    found = pair(*pairs)
    assert sets_of(found) == {"law", "news", "smoke"}
    assert found.refused == ()
    law = found.deltas[0]
    assert law.better is True
    assert law.adjusted_p_value == pytest.approx(2 * law.p_value)


@pytest.mark.parametrize(
    ("settings", "left", "reason"),
    [
        ({"context": 1024}, {"smoke"}, "law: evaluate.context is 1024 and 512"),
        ({"precision": "fp32"}, set(), "smoke: evaluate.precision is fp32 and bf16"),
        ({"exam_context": 2048}, {"law", "news"}, "smoke: evaluate.exam_context is 2048 and 1024"),
        ({"harness_seed": 1}, {"law", "news"}, "smoke: evaluate.harness_seed is 1 and 1234"),
        ({"document_tokens": 1024}, {"law", "news", "smoke"}, ""),  # no document was long enough to be cut
    ],
)
def test_other_settings_are_refused_where_they_change_scores(pairs, settings, left, reason):
    subject, reference = pairs
    found = pair(replace(subject, settings={**subject.settings, **settings}), reference)
    assert sets_of(found) == left
    assert (reason in found.refused) == bool(reason)


def test_other_documents_and_other_texts_are_refused(pairs):
    subject, reference = pairs
    rewrite(subject, "held_out/law-test.jsonl", lambda n, one: {**one, "identity": f"other/{n}"} if n < 10 else one)
    rewrite(subject, "held_out/news-test.jsonl", lambda n, one: {**one, "bytes": one["bytes"] + (n == 0) - (n == 1)})
    found = pair(subject, reference)
    assert sets_of(found) == {"smoke"}
    assert "law: the documents differ: 30 are the same, of 40 and 40" in found.refused
    assert any(
        one.startswith("news: document 'same for all' (news/00000/0) was scored over 101 bytes and over 100")
        for one in found.refused
    )


def test_other_items_are_refused_and_so_is_another_answer_under_the_same_id(pairs):
    subject, reference = pairs
    rewrite(subject, "exams/smoke.jsonl", lambda n, one: {**one, "right": 1} if n < 3 else one)
    found = pair(subject, reference)
    assert sets_of(found) == {"law", "news"}
    assert found.refused == ("smoke: the items differ: 37 are the same, of 40 and 40",)


@pytest.mark.accept(answer=2)
def test_two_tokenizers_are_compared_in_bits_per_byte_and_never_in_perplexity(pairs):
    subject, reference = pairs
    rewrite(subject, "held_out/law-test.jsonl", lambda n, one: {**one, "tokens": one["tokens"] + 1})
    found = pair(subject, reference)
    assert {delta.measure for delta in found.deltas if delta.set_name == "law"} == {"bits_per_byte"}
    assert found.refused == (PERPLEXITY,)


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize(("more", "compared"), [(1, False), (0, True)])
def test_the_letters_perplexity_is_compared_only_under_one_tokenizer(pairs, more, compared):
    subject, reference = (with_letters(one) for one in pairs)
    rewrite(subject, "held_out/law-test.jsonl", lambda n, one: {**one, "tokens": one["tokens"] + more})
    measures = {delta.measure for delta in pair(subject, reference).deltas}
    assert ("letter_nats" in measures) is compared
    assert "accuracy_points" in measures


def with_letters(one: Contender) -> Contender:
    """A run whose exam asks for letters, the first of which is right."""
    rewrite(one, "exams/smoke.jsonl", lambda n, line: {**line, "right": 0, "log_p": [-1.0 - n / 100, -2.0, -2.0, -2.0]})
    return with_exam(one, style="letter", letter_perplexity=3.0)


def with_exam(one: Contender, **changes: Any) -> Contender:
    """A run with other facts about its exam."""
    (scored,) = one.cell.scored
    exams = tuple(exam.model_copy(update=changes) for exam in scored.record.exams)
    record = scored.record.model_copy(update={"exams": exams})
    return replace(one, cell=replace(one.cell, scored=(Scored(record, scored.folder),)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"few_shot": 5}, "smoke: few_shot is 5 and 0"),
        ({"metric": "exact_match"}, "smoke: metric is exact_match and acc"),
        ({"version": "2"}, "smoke: version is 2 and "),
    ],
)
def test_an_exam_asked_otherwise_is_refused(pairs, change, reason):
    subject, reference = pairs
    assert pair(with_exam(subject, **change), reference).refused == (reason,)


@pytest.mark.parametrize(
    ("questions", "reason"),
    [
        ({"smoke": "something else"}, "smoke: the questions differ under the same ids, or the examples before them do"),
        (
            {},
            "smoke: what second was asked cannot be told: its root has no questions of the exam in exams/",
        ),
    ],
)
def test_other_questions_or_examples_under_the_same_ids_are_refused(pairs, questions, reason):
    subject, reference = (with_letters(one) for one in pairs)
    assert pair(replace(subject, questions=questions), reference).refused == (reason,)
    # A task of lm-eval has a version instead.
    subject, reference = (with_exam(one, style=None) for one in (subject, reference))
    assert pair(replace(subject, questions=questions), reference).refused == ()


@pytest.mark.parametrize(("orders", "compared"), [(3, True), (1, False)])
def test_what_is_over_orders_of_the_choices_is_compared_over_the_same_orders(pairs, orders, compared):
    found = []
    for one, permutations in zip(pairs, (orders, 3), strict=True):
        asked = with_letters(one)
        rewrite(asked, "exams/smoke.jsonl", lambda n, line: {**line, "order_accuracy": n % 4 / 4, "order_changes": n % 2 / 1})
        asked = with_exam(asked, order_accuracy=0.4, order_changes=0.5)
        settings = {**asked.settings, "exams": [{"name": "smoke", "permutations": permutations}]}
        found.append(replace(asked, settings=settings))
    both = pair(*found)
    measures = {delta.measure for delta in both.deltas if delta.set_name == "smoke"}
    assert ({"order_accuracy_points", "order_changes_points"} & measures != set()) is compared
    assert "accuracy_points" in measures
    assert both.refused == (() if compared else ("smoke, over all orders: permutations is 1 and 3",))


def test_runs_without_a_common_seed_are_refused(tmp_path):
    laboratory = Laboratory(tmp_path)
    one, other = (laboratory.add("legal", 100, seed=seed) for seed in (0, 1))
    found = pair(contender(laboratory, one, "one"), contender(laboratory, other, "other"))
    assert (found.deltas, found.refused) == ((), ("everything: the two have no seed in common",))


def test_the_rule_is_that_of_the_reference_and_another_is_said(pairs):
    subject, reference = pairs
    found = pair(replace(subject, settings={**subject.settings, "confidence": 0.9}), reference)
    assert found.deltas[0].interval.confidence == 0.95
    assert any("the compare section of first is used, that of second differs" in one for one in found.refused)
