"""Records: they add up, they notice a loss, they read back as they were written."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.errors import DataError
from cpt_ray.records import (
    Amount,
    FileEntry,
    HeldOutRecord,
    HeldOutSet,
    ShardEntry,
    ShardManifest,
    ShardTable,
    StageReport,
    sum_reports,
)

AMOUNTS = st.builds(Amount, documents=st.integers(0, 1000), bytes=st.integers(0, 10**6))


NOTHING = Amount()


def report(stage="clean", source="law", *, kept=NOTHING, edited_bytes=0, **dropped):
    total = sum(dropped.values(), kept)
    given = Amount(documents=total.documents, bytes=total.bytes + edited_bytes)
    return StageReport(stage=stage, source=source, input=given, kept=kept, dropped=dropped, edited_bytes=edited_bytes)


def shard(source, rows):
    return ShardEntry(
        path=f"{source}.arrow", index_path=f"{source}.index", source=source, unit=f"{source}-00000", sha256="0" * 64,
        size_bytes=1, rows=rows, documents=rows, cut_documents=0, tokenizer_tokens=9 * rows,
        separator_tokens=rows, tokens=10 * rows, segments=rows, padding=0, loss_tokens=9 * rows,
    )  # fmt: skip


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
    wrong = right.model_copy(update={"input": right.input + lost})
    with pytest.raises(DataError, match=re.escape(message)):
        wrong.check()


def test_reports_of_the_same_stage_and_source_add_up_by_reason():
    one = report(kept=Amount(documents=1, bytes=10), too_short=Amount(documents=1, bytes=1))
    two = report(kept=Amount(documents=2, bytes=20), edited_bytes=3, too_long=Amount(documents=1, bytes=99))
    total = (one + two).check()
    assert total.kept == Amount(documents=3, bytes=30)
    assert total.dropped == {"too_short": Amount(documents=1, bytes=1), "too_long": Amount(documents=1, bytes=99)}
    assert total.edited_bytes == 3


def test_reports_of_different_stages_do_not_add_up():
    with pytest.raises(ValueError, match="cannot add reports of clean/law and dedup/law"):
        report() + report(stage="dedup")


def test_summing_keeps_the_order_of_first_appearance():
    pieces = [report("b"), report("a"), report("b"), report("a", "news")]
    assert [(r.stage, r.source) for r in sum_reports(pieces)] == [("b", "law"), ("a", "law"), ("a", "news")]


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, st.integers(-50, 50)), max_size=8))
def test_the_sum_of_balanced_reports_is_balanced(pieces):
    reports = [report(kept=kept, edited_bytes=edited, too_short=dropped) for kept, dropped, edited in pieces]
    for total in sum_reports(reports):
        total.check()
        assert total.input.documents == sum(r.input.documents for r in reports)


def test_a_record_reads_back_as_it_was_written(tmp_path):
    written = report(kept=Amount(documents=1, bytes=10), too_short=Amount(documents=2, bytes=3))
    assert StageReport.from_json(written.to_json()) == written
    (tmp_path / "report.json").write_text(written.to_json())
    assert StageReport.load(tmp_path / "report.json") == written


def test_a_record_refuses_a_key_that_it_does_not_know():
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        FileEntry.from_json(json.dumps({"path": "a", "size_bytes": 1, "sha256": "x", "owner": "me"}))


def test_a_record_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Amount().documents = 4


def test_a_manifest_counts_by_source_in_canonical_order():
    shards = (shard("law", 3), shard("news", 5), shard("law", 4))
    manifest = ShardManifest(
        format_version=1, sequence_length=10, vocabulary_size=64, token_dtype="uint16", separator_id=0,
        tokenizer_sha256="0" * 64, shards=shards, reports=(), task_pids={},
    )  # fmt: skip
    assert list(manifest.of_source("law")) == [shards[0], shards[2]]
    assert manifest.shards.sources == ("law", "news")
    assert (len(manifest.shards), manifest.shards[-1], list(manifest.shards[1:])) == (3, shards[2], [shards[1], shards[2]])
    assert manifest.shards.total("rows") == 12
    assert (manifest.rows("law"), manifest.rows("news"), manifest.rows("none")) == (7, 5, 0)
    assert manifest.loss_tokens("law") == 63


def test_the_validation_half_is_read_without_the_test_half():
    sets = tuple(
        HeldOutSet(source=source, role="domain", part=part, path=f"{source}-{part}.jsonl", documents=2, bytes=9)
        for source, part in [("law", "validation"), ("law", "test"), ("news", "test")]
    )
    record = HeldOutRecord(sets=sets, reports=(), task_pids={})
    assert [entry.path for entry in record.of_part("validation")] == ["law-validation.jsonl"]
    assert [entry.source for entry in record.of_part("test")] == ["law", "news"]


def test_a_table_of_shards_holds_the_entries_that_it_was_made_of():
    entries = [shard(source, rows) for source, rows in (("law", 3), ("news", 5), ("law", 0))]
    table = ShardTable.of(entries)
    assert list(table) == entries
    assert table == ShardTable.of(iter(entries))
    assert table != ShardTable.of(entries[:2])
    assert table.places("law").tolist() == [0, 2]
    assert table.places("none").tolist() == []
    assert len(ShardTable.of([])) == 0
    with pytest.raises(IndexError, match="shard 3 of 3"):
        table[3]
