"""Stage reports add up and detect losses; held-out sets are read by half."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.errors import DataError
from cpt_ray.records import Amount, HeldOutRecord, HeldOutSet, StageReport, sum_reports

AMOUNTS = st.builds(Amount, documents=st.integers(0, 1000), bytes=st.integers(0, 10**6))
NOTHING = Amount()


def report(stage="clean", source="law", *, kept=NOTHING, edited_bytes=0, **dropped):
    total = Amount.total([*dropped.values(), kept])
    given = Amount(documents=total.documents, bytes=total.bytes + edited_bytes)
    return StageReport(stage=stage, source=source, input=given, kept=kept, dropped=dropped, edited_bytes=edited_bytes)


def test_a_report_that_adds_up_passes_and_is_returned():
    balanced = report(kept=Amount(documents=2, bytes=90), edited_bytes=10, too_short=Amount(documents=1, bytes=5))
    assert balanced.input == Amount(documents=3, bytes=105)
    assert balanced.check() is balanced


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (Amount(documents=1), "stage clean of source law lost documents: 3 in, 1 kept, 1 dropped"),
        (Amount(bytes=1), "stage clean of source law lost bytes: 101 in, 90 kept, 5 dropped, 5 edited"),
        (Amount(documents=-1), "stage clean of source law lost documents: 1 in, 1 kept, 1 dropped"),
        (Amount(bytes=-1), "stage clean of source law lost bytes: 99 in, 90 kept, 5 dropped, 5 edited"),
    ],
)
def test_a_report_that_lost_or_gained_something_is_refused(lost, message):
    right = report(kept=Amount(documents=1, bytes=90), edited_bytes=5, too_short=Amount(documents=1, bytes=5))
    wrong = right.model_copy(update={"input": Amount.total([right.input, lost])})
    with pytest.raises(DataError, match=re.escape(message)):
        wrong.check()


def test_reports_of_the_same_stage_and_source_add_up_by_reason():
    one = report(kept=Amount(documents=1, bytes=10), too_short=Amount(documents=1, bytes=1))
    two = report(kept=Amount(documents=2, bytes=20), edited_bytes=3, too_long=Amount(documents=1, bytes=99))
    total = StageReport.total([one, two]).check()
    assert total.kept == Amount(documents=3, bytes=30)
    assert total.dropped == {"too_short": Amount(documents=1, bytes=1), "too_long": Amount(documents=1, bytes=99)}
    assert total.edited_bytes == 3


def test_reports_of_different_stages_do_not_add_up():
    with pytest.raises(ValueError, match="cannot add reports of clean/law and dedup/law"):
        StageReport.total([report(), report(stage="dedup")])


def test_summing_keeps_the_order_of_first_appearance():
    pieces = [report("b"), report("a"), report("b"), report("a", "news")]
    assert [(r.stage, r.source) for r in sum_reports(pieces)] == [("b", "law"), ("a", "law"), ("a", "news")]


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, st.integers(-50, 50)), max_size=8))
def test_the_sum_of_balanced_reports_is_balanced(pieces):
    reports = [report(kept=kept, edited_bytes=edited, too_short=dropped) for kept, dropped, edited in pieces]
    for total in sum_reports(reports):
        total.check()
        assert total.input.documents == sum(r.input.documents for r in reports)


@pytest.mark.parametrize(
    ("role", "part", "documents", "is_scored"),
    [("domain", "test", 2, True), ("domain", "validation", 2, True), ("domain", "validation", 1, False),
     ("general", "test", 2, True), ("general", "validation", 9, False), ("probe", "validation", 9, False)],
)  # fmt: skip
def test_models_are_scored_on_all_tests_and_on_the_domain_s_validation_half_if_that_gives_a_score(
    role, part, documents, is_scored
):
    held = HeldOutSet(source="law", role=role, part=part, path="law.jsonl", documents=documents, bytes=9)
    assert held.is_scored is is_scored


def test_the_validation_half_is_read_without_the_test_half():
    sets = tuple(
        HeldOutSet(source=source, role="domain", part=part, path=f"{source}-{part}.jsonl", documents=2, bytes=9)
        for source, part in [("law", "validation"), ("law", "test"), ("news", "test")]
    )
    record = HeldOutRecord(sets=sets, reports=(), task_pids={}, shares={})
    assert [entry.path for entry in record.of_part("validation")] == ["law-validation.jsonl"]
    assert [entry.source for entry in record.of_part("test")] == ["law", "news"]
