"""Tasks are read in order, under the policy for bad records, from files that have not changed since they were listed."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.data.read import ReadPart, ReadTask, Rejected, plan_reads, read_documents
from cpt_ray.errors import DataError
from tests.data.read.test_bad_files import LINES
from tests.data.read.test_formats import read, source, texts, write_jsonl


def test_the_limit_follows_canonical_order_across_files(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", [{"text": f"b{n}"} for n in range(200)])
    write_jsonl(tmp_path / "a.jsonl", [{"text": f"a{n}"} for n in range(3)])
    config = source(tmp_path / "*.jsonl", "jsonl", limit_documents=5)
    assert texts(config, 100) == ["a0", "a1", "a2", "b0", "b1"]


def test_a_missing_key_names_file_line_and_what_there_is(tmp_path: Path) -> None:
    rows = [{"text": "x" * 50}] * 20 + [{"body": "y"}]
    config = source(write_jsonl(tmp_path / "a.jsonl", rows), "jsonl", on_bad_record="fail")
    for unit_bytes in (10**6, 100):  # the location is the same in a byte range that begins further on
        with pytest.raises(DataError, match=r"a\.jsonl, line 21: no field 'text'; fields present: body") as caught:
            read(config, unit_bytes)
        assert caught.value.fix == (
            "set the field names of source law to fields that its records have; or set on_bad_record of source law to drop"
        )


def test_text_that_is_not_text_is_named(tmp_path: Path) -> None:
    config = source(write_jsonl(tmp_path / "a.jsonl", [{"text": 5}]), "jsonl", on_bad_record="fail")
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: 'text' holds int, not text"):
        read(config)
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, row 1: 'text' holds int, not text") as caught:
        read(source(tmp_path / "a.parquet", "parquet", on_bad_record="fail"))
    assert caught.value.fix.startswith("set text_field of source law to a field that contains text")


@pytest.mark.accept(data=4)
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_file_that_changes_between_listing_and_reading_is_named(tmp_path: Path, when: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    config = source(path, "jsonl")
    (task,) = plan_reads(config, 10**6)
    stream = read_documents(task, config)
    if when == "while":
        next(stream)
    with path.open("ab") as out:
        out.write(b'{"text": "one more"}\n')
    os.utime(path, ns=(1, 1))  # found even if the clock does not advance
    with pytest.raises(DataError, match=r"a\.jsonl: changed while being read: version .*, now ") as caught:
        list(stream)
    assert caught.value.fix.startswith("make sure nothing writes to the files of source law while it is prepared")
    path.unlink()
    with pytest.raises(DataError, match=r"a\.jsonl: disappeared after it was listed at the start"):
        list(read_documents(task, config))


def test_a_limit_counts_bad_records_too(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"body": "b"}, {"text": "c"}])
    items = read(source(path, "jsonl", limit_documents=2))
    assert [type(item) is Rejected for item in items] == [False, True]


def test_a_dropped_record_is_named_by_its_place_and_begins_with_its_problem(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"body": "b"}])
    (bad,) = [item for item in read(source(path, "jsonl")) if isinstance(item, Rejected)]
    assert bad.id == f"{path}, line 2"
    assert bad.preview.startswith(bad.problem)
    assert '{"body": "b"}' in bad.preview


def test_half_bad_is_put_up_with_and_more_is_not(tmp_path: Path) -> None:
    good, bad = {"text": "a"}, {"body": "b"}
    for rows, hopeless in (([good, bad] * 600, False), ([good, bad, bad] * 400, True)):
        config = source(write_jsonl(tmp_path / "a.jsonl", rows), "jsonl")
        if hopeless:
            with pytest.raises(DataError, match="of 1001 records are bad"):
                read(config, 10**6)
        else:
            assert len(read(config, 10**6)) == 1200


def test_the_address_of_a_file_that_is_left_out_keeps_no_secret() -> None:
    part = ReadPart(path="https://u:hunter2@host/x.pdf?sig=abc", size_bytes=5, version="", left_out="pdf")
    config = source("https://host/x.jsonl", "jsonl")
    (item,) = read_documents(ReadTask(index=0, format="jsonl", parts=(part,)), config)
    assert isinstance(item, Rejected)
    assert "hunter2" not in item.id + item.preview
    assert "abc" not in item.id + item.preview
    assert "host/x.pdf" in item.id
