"""Conservation under fuzzing: whatever a file contains, all of it is yielded or rejected, or there is an error.

Each example writes a file of known records, some of them corrupted, and reads it in units of any size. Bounded: a few hundred
examples in a few seconds; `full` runs more.
"""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpt_ray.data.read import Rejected
from cpt_ray.errors import DataError
from cpt_ray.records import Document
from tests.data.read.test_formats import read, source

pytestmark = pytest.mark.accept(data=4)

BRIEF = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LONG = settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}

text = st.text(max_size=60)
value = st.one_of(text, st.none(), st.integers(), st.lists(st.integers(), max_size=2))
record = st.dictionaries(st.sampled_from(["text", "id", "url", "x"]), value, max_size=4)
spoiled = st.sampled_from([b"{", b'{"text": "a"', b"[1]", b"7", b'{"text": "\xff"}', b"\x00", b'{"text": "\\ud800"}', b"null"])
line = st.one_of(record.map(lambda row: json.dumps(row).encode()), spoiled)
packing = st.sampled_from(sorted(PACKERS))
unit_bytes = st.sampled_from([1, 7, 64, 1000, 10**6])


def counted(items: list[Document | Rejected]) -> tuple[int, int]:
    documents = sum(isinstance(item, Document) for item in items)
    return documents, len(items) - documents


def expected(row: object) -> str | None:
    """The text of the document in a parsed record, or None if it is rejected; an independent statement of the rule."""
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip() or "id" not in row:
        return None
    fields = [row["text"], *[str(row[key]) for key in ("id", "url") if row.get(key) is not None]]
    return None if any("\ud800" <= letter <= "\udfff" for field in fields for letter in field) else row["text"]


def parsed(data: bytes) -> object:
    try:
        return json.loads(data.decode())
    except ValueError:
        return None


def check_lines(folder: Path, lines: list[bytes], suffix: str, size: int) -> None:
    path = folder / f"a.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](b"\n".join(lines)))
    config = source(path, "jsonl", id_field="id", origin_field="url", max_bad_share=1.0)
    items = read(config, size)
    assert len(items) == len([data for data in lines if data.strip()])
    wanted = [text for text in map(expected, map(parsed, lines)) if text is not None]
    assert [item.text for item in items if isinstance(item, Document)] == wanted


def check_list(folder: Path, rows: list[object], suffix: str, indent: int | None) -> None:
    path = folder / f"a.json{suffix}"
    path.write_bytes(PACKERS[suffix](json.dumps(rows, indent=indent).encode()))
    items = read(source(path, "json", id_field="id", origin_field="url", max_bad_share=1.0))
    assert len(items) == len(rows)
    wanted = [text for text in map(expected, rows) if text is not None]
    assert [item.text for item in items if isinstance(item, Document)] == wanted


lines_strategy = st.lists(line, max_size=25)
rows_strategy = st.lists(st.one_of(record, st.integers(), st.none(), text), max_size=25)


@BRIEF
@given(lines=lines_strategy, suffix=packing, size=unit_bytes)
def test_every_line_is_a_document_or_a_rejection(tmp_path: Path, lines: list[bytes], suffix: str, size: int) -> None:
    check_lines(tmp_path, lines, suffix, size)


@BRIEF
@given(rows=rows_strategy, suffix=packing, indent=st.sampled_from([None, 0, 3]))
def test_every_element_is_a_document_or_a_rejection(
    tmp_path: Path, rows: list[object], suffix: str, indent: int | None
) -> None:
    check_list(tmp_path, rows, suffix, indent)


@pytest.mark.full
@LONG
@given(lines=lines_strategy, rows=rows_strategy, suffix=packing, size=unit_bytes, indent=st.sampled_from([None, 0, 3]))
def test_lines_and_elements_at_length(
    tmp_path: Path, lines: list[bytes], rows: list[object], suffix: str, size: int, indent: int | None
) -> None:
    check_lines(tmp_path, lines, suffix, size)
    check_list(tmp_path, rows, suffix, indent)


cell = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)


@BRIEF
@given(rows=st.lists(st.tuples(cell, cell), max_size=20), torn=st.sets(st.integers(0, 19)), suffix=packing)
def test_every_csv_row_is_a_document_or_a_rejection(
    tmp_path: Path, rows: list[tuple[str, str]], torn: set[int], suffix: str
) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    path = tmp_path / f"a.csv{suffix}"
    lines = [f"{quoted(a)},{quoted(b)}" + (",extra" if number in torn else "") for number, (a, b) in enumerate(rows)]
    path.write_bytes(PACKERS[suffix]("\r\n".join(["id,text", *lines]).encode()))
    items = read(source(path, "csv", id_field="id"))
    assert len(items) == len(rows)
    wanted = [b for number, (_, b) in enumerate(rows) if number not in torn and b.strip()]
    assert [item.text for item in items if isinstance(item, Document)] == wanted
    assert sum(isinstance(item, Rejected) and item.reason == "bad_row" for item in items) == len(torn & set(range(len(rows))))


@BRIEF
@given(rows=st.lists(st.one_of(cell, st.none()), max_size=40), group=st.integers(1, 9), size=unit_bytes)
def test_every_row_of_a_table_is_a_document_or_a_rejection(
    tmp_path: Path, rows: list[str | None], group: int, size: int
) -> None:
    table = pa.table({"text": pa.array(rows, pa.string())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=group)
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=group)
    wanted = [row for row in rows if row and row.strip()]
    for file_format in ("parquet", "arrow"):
        items = read(source(tmp_path / f"a.{file_format}", file_format), size)
        assert len(items) == len(rows)
        assert [item.text for item in items if isinstance(item, Document)] == wanted


SMALL = [json.dumps({"text": f"document number {number}"}).encode() for number in range(30)]


def packed(file_format: str) -> bytes:
    if file_format == "parquet":
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([json.loads(data) for data in SMALL]), out, row_group_size=7)
        return out.getvalue()
    if file_format == "json":
        return b"[" + b",".join(SMALL) + b"]"
    return PACKERS[file_format.removeprefix("jsonl")](b"\n".join(SMALL))


@BRIEF
@given(
    file_format=st.sampled_from(["jsonl.gz", "jsonl.zst", "json", "parquet"]),
    keep=st.floats(0, 1, exclude_max=True),
    size=unit_bytes,
)
def test_a_file_cut_anywhere_is_an_error_and_never_fewer_documents(
    tmp_path: Path, file_format: str, keep: float, size: int
) -> None:
    data = packed(file_format)
    path = tmp_path / f"a.{file_format}"
    path.write_bytes(data)
    config = source(path, file_format.split(".")[0])
    assert counted(read(config, size)) == (len(SMALL), 0)
    path.write_bytes(data[: int(len(data) * keep)])
    try:
        items = read(config, size)
    except DataError as error:
        assert str(path) in error.problem  # noqa: PT017
    else:
        assert int(len(data) * keep) == 0, "a file that was cut passed"
        assert counted(items)[0] == 0


@BRIEF
@given(data=st.binary(max_size=300), size=unit_bytes, file_format=st.sampled_from(["jsonl", "json", "csv", "text", "parquet"]))
def test_any_bytes_at_all_end_in_records_or_in_an_error_that_names_the_file(
    tmp_path: Path, data: bytes, size: int, file_format: str
) -> None:
    path = tmp_path / "a.x"
    path.write_bytes(data)
    try:
        read(source(path, file_format), size)
    except DataError as error:
        assert str(path) in error.problem  # noqa: PT017
