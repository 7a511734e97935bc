"""What `check` can know of a source before anything is prepared."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from cpt_ray.data.read import prove_source
from cpt_ray.data.read.tabular import tables
from cpt_ray.errors import DataError
from tests.data.read.test_formats import source, write_jsonl

pytestmark = pytest.mark.accept(inputs=1)


def rows(count: int, **fields: object) -> list[object]:
    return [{"id": str(n), "text": f"text {n}", **fields} for n in range(count)]


def test_files_sizes_and_what_is_left_out_are_told_by_kind(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt", "d.pdf", "e.pdf", ".f.txt"):
        (tmp_path / name).write_text("text")
    (tmp_path / "g.txt").write_bytes(bytes(range(256)))
    proof = prove_source(source(tmp_path, "auto"))
    assert (proof.files, proof.size_bytes) == (4, 268)
    assert {kind: count for kind, (count, _) in proof.left_out.items()} == {"pdf": 2, "hidden": 1, "binary": 1}
    assert proof.left_out["binary"][1].endswith("g.txt")
    assert proof.warnings == ()


@pytest.mark.parametrize(("file_format", "warned"), [("text", True), ("html", True), ("jsonl", False)])
def test_the_field_of_a_text_is_said_to_have_no_effect_where_a_file_is_a_document(
    tmp_path: Path, file_format: str, warned: bool
) -> None:
    for number in range(4):
        (tmp_path / f"{number}.x").write_text(json.dumps({"body": f"text {number}"}))
    proof = prove_source(source(tmp_path / "*.x", file_format, text_field="body"))
    assert ("source law: text_field has no effect: each file is one document" in proof.warnings) == warned


def test_a_field_that_no_record_has_is_a_warning_with_the_fields_that_are_there(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows(9, meta={"lang": "de"}))
    (warning,) = prove_source(source(path, "jsonl", language_field="meta.language", default_language="de")).warnings
    expected = (
        "source law: none of the 9 documents that were read has language_field 'meta.language'; fields present: id, text, meta"
    )
    assert warning == expected
    config = source(path, "jsonl", language_field="meta.lang", default_language="de")
    assert prove_source(config, filters_language=True).warnings == ()
    pq.write_table(pa.Table.from_pylist(rows(9)), tmp_path / "a.parquet")
    (warning,) = prove_source(source(tmp_path / "a.parquet", "parquet", date_field="day")).warnings
    assert warning.endswith("has date_field 'day'; fields present: id, text")


def test_a_language_filter_on_documents_without_language_is_said(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows(9))
    (warning,) = prove_source(source(path, "jsonl"), filters_language=True).warnings
    assert "prepare.clean.languages keeps its documents whatever their language" in warning
    assert prove_source(source(path, "jsonl", default_language="en"), filters_language=True).warnings == ()


@pytest.mark.parametrize(("field", "fix"), [("text_field", "set the field names"), ("id_field", "set the field names")])
def test_a_text_or_id_that_no_record_has_is_refused(tmp_path: Path, field: str, fix: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows(9))
    with pytest.raises(
        DataError, match=r"none of the first 9 records is a document: .*: no field 'body'; fields present: id, text"
    ) as caught:
        prove_source(source(path, "jsonl", **{field: "body"}))
    assert caught.value.fix.startswith(fix)


def test_a_source_too_small_for_a_test_set_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows(2))
    with pytest.raises(DataError, match="source law: holds 2 documents; its test set needs 2, and training at least 1"):
        prove_source(source(path, "jsonl"))


def write_table(path: Path, table: pa.Table) -> None:
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        (pq.write_table if path.suffix == ".parquet" else pa.feather.write_feather)(table, path)


@pytest.mark.parametrize("file_format", ["parquet", "arrow", "csv"])
@pytest.mark.parametrize("encoding", ["utf-8", "auto"])
def test_an_odd_table_among_hundreds_is_found(tmp_path: Path, file_format: str, encoding: str) -> None:
    for number in range(300):
        write_table(tmp_path / f"{number:03d}.{file_format}", pa.Table.from_pylist(rows(5)))
    config = source(tmp_path / f"*.{file_format}", file_format, encoding=encoding)
    assert prove_source(config).warnings == ()
    write_table(tmp_path / f"250.{file_format}", pa.table({"body": ["x"]}))
    with pytest.raises(DataError, match=rf"250\.{file_format}: no column 'text'; columns present: body; 1 of 300 ") as caught:
        prove_source(config)
    assert caught.value.fix == ("leave it out of source law, or set the field names to columns that all its tables have")
    write_table(tmp_path / f"250.{file_format}", pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]))
    with pytest.raises(DataError, match=rf"250\.{file_format}: 2 columns are called 'text'"):
        prove_source(config)


def test_a_damaged_table_is_found_and_what_is_no_table_is_left_to_reading(tmp_path: Path) -> None:
    for number in range(9):
        pq.write_table(pa.Table.from_pylist(rows(5)), tmp_path / f"{number}.parquet")
    (tmp_path / "7.parquet").write_bytes(b"%PDF-1.7 called a table")
    assert prove_source(source(tmp_path / "*.parquet", "parquet")).left_out == {"pdf": (1, f"{tmp_path}/7.parquet")}
    (tmp_path / "8.parquet").write_bytes((tmp_path / "6.parquet").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"8\.parquet: not a Parquet file, or truncated"):
        prove_source(source(tmp_path / "*.parquet", "parquet"))


def test_more_tables_than_are_looked_at_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_LOCAL", 10)
    for number in range(30):
        pq.write_table(pa.Table.from_pylist(rows(5)), tmp_path / f"{number:02d}.parquet")
    said = prove_source(source(tmp_path / "*.parquet", "parquet")).warnings
    assert said == ("source law: the columns of 10 of its 30 tables were looked at",)
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "27.parquet")
    with pytest.raises(DataError, match=r"27\.parquet: no column 'text'"):
        prove_source(source(tmp_path / "*.parquet", "parquet"))


def test_a_large_source_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("w") as out:
        for row in rows(30_000):
            out.write(json.dumps(row) + "\n")
        out.write("{broken\n")
    assert prove_source(source(tmp_path / "a.jsonl", "jsonl", on_bad_record="fail")).files == 1


def test_of_many_files_that_are_documents_a_spread_sample_is_read(tmp_path: Path) -> None:
    for number in range(200):
        header = "---\nlanguage: de\n---\n" if number > 100 else ""
        (tmp_path / f"{number:03d}.txt").write_text(f"{header}text {number} " + "word " * 2000)
    config = source(tmp_path / "*.txt", "front_matter", language_field="language")
    assert prove_source(config).warnings == ()
    for path in tmp_path.glob("*.txt"):
        path.write_text("word " * 2000)
    assert prove_source(config).warnings == (
        "source law: none of the 20 documents that were read has language_field 'language'",
    )


NESTED = [{"id": str(n), "data": {"body": f"a nested text number {n}"}} for n in range(60)]


def test_records_without_the_field_are_refused_as_preparation_refuses_them_though_other_files_are_documents(tmp_path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.txt").write_text(f"text {number}")
    write_jsonl(tmp_path / "z.jsonl", NESTED)
    with pytest.raises(
        DataError, match=r"source law: .* records that were read are bad, for example .*z\.jsonl, line 1: no f"
    ) as e:
        prove_source(source(tmp_path, "auto"))
    assert "present: id, data; " in e.value.problem
    assert e.value.problem.endswith(" of the source, as far as this tells, but max_bad_share is 0.05")
    assert e.value.fix.startswith("set the field names of source law to fields that its records have; or leave these files out")
    assert prove_source(source(tmp_path, "auto", text_field="data.body")).warnings == ()


def test_of_a_source_that_is_read_whole_the_share_of_bad_records_is_the_one_that_preparation_sees(tmp_path: Path) -> None:
    good = rows(19)
    path = write_jsonl(tmp_path / "a.jsonl", [*good, NESTED[0]])
    (warning,) = prove_source(source(path, "jsonl")).warnings
    assert "1 of the 20 records that were read are bad" in warning
    assert warning.endswith("the run drops such records, and stops above max_bad_share 0.05")
    write_jsonl(path, [*good, *NESTED[:2]])
    with pytest.raises(DataError, match=r"2 of the 21 records that were read are bad, .*; 9\.5% of the source, but max_bad_sh"):
        prove_source(source(path, "jsonl"))
