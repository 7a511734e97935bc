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


@given(lines=st.lists(st.binary(max_size=8).filter(lambda b: b"\n" not in b), max_size=12), at=st.integers(1, 60))
def test_any_border_splits_lines_without_loss(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], at: int) -> None:
    path = tmp_path_factory.mktemp("ranges") / "a.jsonl"
    path.write_bytes(b"\n".join([b"{}", *lines]))  # what begins as another kind of file is never split
    config = source(path, "jsonl")
    ((size, pinned),) = [(f.size_bytes, f._asdict()) for f in list_source_files(str(path))]

    def sizes(*parts: ReadPart) -> list[int]:
        task = ReadTask(index=0, format="jsonl", parts=parts)
        return [item.num_bytes for item in read_documents(task, config) if isinstance(item, Rejected)]

    whole = sizes(ReadPart(**pinned))
    split = sizes(ReadPart(**pinned, end=at), ReadPart(**pinned, start=at, end=max(size, at)))
    assert split == whole


def test_csv_keeps_newlines_in_quotes_and_reads_from_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", 'id,text\n1,"two\nlines, ""quoted"""\n2,plain\n')
    config = source(f"zip://a.csv::{tmp_path}/a.zip", "csv", id_field="id")
    assert [(item.id, item.text) for item in read(config)] == [("1", 'two\nlines, "quoted"'), ("2", "plain")]


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


@pytest.mark.parametrize("content", [b'"', b'id,"text\n1,ok\n', b'"id"x,text\n1,ok\n'])
def test_a_csv_whose_header_is_not_csv_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.csv, line 1: the header is not CSV: "):
        read(source(tmp_path / "a.csv", "csv"))


def test_a_missing_column_names_the_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("body,n\nx,1\n")
    for file_format in ("parquet", "csv"):
        path = tmp_path / f"a.{file_format}"
        with pytest.raises(DataError, match=rf"a\.{file_format}: no column 'text'; columns present: body, n") as caught:
            read(source(path, file_format))
        assert caught.value.fix == "set the field names of source law to existing columns"
        with pytest.raises(DataError, match="no column 'name'; columns present: body, n"):
            read(source(path, file_format, text_field="body", id_field="name"))
        for field in ("language", "origin", "date", "license"):
            assert texts(source(path, file_format, text_field="body", **{f"{field}_field": "name"})) == ["x"]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "zip"])
@pytest.mark.parametrize("encoding", ["auto", "utf-8"])
def test_json_lines_are_known_by_a_long_first_line_too(tmp_path: Path, name: str, encoding: str) -> None:
    rows = ["x" * 100_000, "a short one"]
    data = "".join(json.dumps({"text": text}) + "\n" for text in rows).encode()
    path = tmp_path / ("a.zip" if name == "zip" else name)
    if name == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.json", data)
    else:
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert texts(source(path, "auto", encoding=encoding)) == rows
