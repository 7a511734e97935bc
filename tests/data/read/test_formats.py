import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import ReadPart, ReadTask, Rejected, plan_reads, read_documents
from cpt_ray.edges.source_files import list_source_files
from cpt_ray.errors import DataError
from cpt_ray.records import Document


def source(path: Path | str, file_format: str, **changes: object) -> SourceConfig:
    fields = {"name": "law", "role": "domain", "path": str(path), "format": file_format, **changes}
    return SourceConfig.model_validate(fields)


def read(config: SourceConfig, unit_bytes: int = 1000) -> list[Document | Rejected]:
    return [item for task in plan_reads(config, unit_bytes) for item in read_documents(task, config)]


def texts(config: SourceConfig, unit_bytes: int = 1000) -> list[str]:
    return [item.text for item in read(config, unit_bytes) if isinstance(item, Document)]


def write_jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("unit_bytes", [30, 64, 100, 1000, 10**6])
def test_byte_ranges_yield_every_line_once_and_in_order(tmp_path: Path, unit_bytes: int) -> None:
    rows = [{"text": f"line {number} " + "x" * (number % 40)} for number in range(100)]
    config = source(write_jsonl(tmp_path / "a.jsonl", rows), "jsonl")
    assert texts(config, unit_bytes) == [row["text"] for row in rows]
    assert len(plan_reads(config, unit_bytes)) == -(-(tmp_path / "a.jsonl").stat().st_size // unit_bytes)


@given(lines=st.lists(st.binary(max_size=8).filter(lambda b: b"\n" not in b), max_size=12), at=st.integers(1, 60))
def test_any_border_splits_lines_without_loss(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], at: int) -> None:
    path = tmp_path_factory.mktemp("ranges") / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    config = source(path, "jsonl")
    ((size, pinned),) = [(f.size_bytes, f._asdict()) for f in list_source_files(str(path))]

    def sizes(*parts: ReadPart) -> list[int]:
        task = ReadTask(index=0, format="jsonl", parts=parts)
        return [item.num_bytes for item in read_documents(task, config) if isinstance(item, Rejected)]

    whole = sizes(ReadPart(**pinned))
    split = sizes(ReadPart(**pinned, end=at), ReadPart(**pinned, start=at, end=max(size, at)))
    assert split == whole


def test_small_files_are_grouped_and_sorted(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        (tmp_path / f"{name}.txt").write_text(name * 400)
    config = source(tmp_path / "*.txt", "text")
    assert [len(task.parts) for task in plan_reads(config, 1000)] == [2, 1]
    assert [item.id for item in read(config)] == ["a", "b", "c"]


def test_parquet_is_split_by_row_groups(tmp_path: Path) -> None:
    rows = [f"row {number} " + "abc" * 20 for number in range(50)]
    pq.write_table(pa.table({"text": rows, "lang": ["de"] * 50}), tmp_path / "a.parquet", row_group_size=10)
    config = source(tmp_path / "a.parquet", "parquet", language_field="lang")
    assert len(plan_reads(config, 1000)) == 5
    assert texts(config) == rows
    assert {item.language for item in read(config)} == {"de"}


def test_csv_keeps_newlines_in_quotes_and_reads_from_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", 'id,text\n1,"two\nlines, ""quoted"""\n2,plain\n')
    config = source(f"zip://a.csv::{tmp_path}/a.zip", "csv", id_field="id")
    assert [(item.id, item.text) for item in read(config)] == [("1", 'two\nlines, "quoted"'), ("2", "plain")]


def test_gzip_is_one_task(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(b'{"text": "t%d"}\n' % n for n in range(500))))
    config = source(tmp_path / "a.jsonl.gz", "jsonl")
    assert len(plan_reads(config, 100)) == 1
    assert len(texts(config, 100)) == 500


def test_a_header_is_stripped_and_its_language_read(tmp_path: Path) -> None:
    (tmp_path / "mit.LICENSE").write_text("---\nkey: mit\nlanguage: fr\n---\n\nPermission\n---\nis granted")
    (tmp_path / "no.LICENSE").write_text("---\nlanguage: no\n---\nTillatelse")
    (tmp_path / "plain.LICENSE").write_text("No header here")
    config = source(tmp_path / "*.LICENSE", "front_matter", language_field="language", default_language="en")
    found = {item.id: (item.text, item.language) for item in read(config)}
    assert found == {
        "mit": ("Permission\n---\nis granted", "fr"),
        "no": ("Tillatelse", "no"),
        "plain": ("No header here", "en"),
    }


def test_a_document_without_an_id_is_named_by_its_content(tmp_path: Path) -> None:
    config = source(write_jsonl(tmp_path / "a.jsonl", [{"text": "same"}, {"text": "same"}, {"text": "other"}]), "jsonl")
    ids = [item.id for item in read(config)]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 16


def test_bad_input_is_rejected_by_reason_with_its_size(tmp_path: Path) -> None:
    lines = [
        b"{oops",
        b'{"text": "\xff"}',
        b"[1]",
        b'{"text": " "}',
        b'{"text": null}',
        b'{"text": "\\ud800"}',
        b'{"text": "ok"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found = [(i.reason, i.num_bytes) for i in read(source(tmp_path / "a.jsonl", "jsonl")) if isinstance(i, Rejected)]
    assert [reason for reason, _ in found] == ["bad_json", "bad_encoding", "bad_json", "empty", "empty", "bad_encoding"]
    assert found[0] == ("bad_json", 6)
    (tmp_path / "a.csv").write_bytes(b"text\n\xff\xfe\nok\n")
    assert [getattr(item, "reason", "") for item in read(source(tmp_path / "a.csv", "csv"))] == ["bad_encoding", ""]
    (tmp_path / "a.txt").write_bytes(b"\xff")
    assert [getattr(item, "reason", "") for item in read(source(tmp_path / "a.txt", "text"))] == ["bad_encoding"]


def test_the_limit_follows_canonical_order_across_files(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", [{"text": f"b{n}"} for n in range(200)])
    write_jsonl(tmp_path / "a.jsonl", [{"text": f"a{n}"} for n in range(3)])
    config = source(tmp_path / "*.jsonl", "jsonl", limit_documents=5)
    assert texts(config, 100) == ["a0", "a1", "a2", "b0", "b1"]


def test_a_missing_key_names_file_line_and_what_there_is(tmp_path: Path) -> None:
    rows = [{"text": "x" * 50}] * 20 + [{"body": "y"}]
    config = source(write_jsonl(tmp_path / "a.jsonl", rows), "jsonl", on_bad_record="fail")
    for unit_bytes in (10**6, 100):  # the place is the same in a byte range that begins further on
        with pytest.raises(DataError, match=r"a\.jsonl, line 21: no field 'text'; there are: body") as caught:
            read(config, unit_bytes)
        assert caught.value.fix == (
            "set the field names of source law to what its records have; or set on_bad_record of source law to drop"
        )


def test_text_that_is_not_text_is_named(tmp_path: Path) -> None:
    config = source(write_jsonl(tmp_path / "a.jsonl", [{"text": 5}]), "jsonl", on_bad_record="fail")
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: 'text' holds int, not text"):
        read(config)
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: column 'text' holds int64, not text") as caught:
        read(source(tmp_path / "a.parquet", "parquet"))
    assert caught.value.fix == "set text_field of source law to a column that holds text"


def test_a_missing_column_names_the_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("body,n\nx,1\n")
    for file_format in ("parquet", "csv"):
        path = tmp_path / f"a.{file_format}"
        with pytest.raises(DataError, match=rf"a\.{file_format}: no column 'text'; there are: body, n") as caught:
            read(source(path, file_format))
        assert caught.value.fix == "set the field names of source law to columns that are there"
        for field in ("id", "language", "origin", "date", "license"):
            with pytest.raises(DataError, match="no column 'name'; there are: body, n"):
                read(source(path, file_format, text_field="body", **{f"{field}_field": "name"}))


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("hello, no parquet here")
    for unit_bytes in (1000, 1):  # found by a worker, or by the driver where it cuts a large file
        with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file, or cut short") as caught:
            read(source(tmp_path / "a.parquet", "parquet"), max(unit_bytes, 1))
        assert caught.value.fix == "check path and format of source law; fetch the file again if it was cut"
