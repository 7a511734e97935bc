"""Truncated, damaged, changed or odd files: an error that names the location, or a counted rejection; never a silent loss."""

import gzip
import io
import json
import lzma
import os
import resource
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import Rejected, plan_reads, read_documents
from cpt_ray.data.run.document_tasks import ReadUnit, read_unit
from cpt_ray.data.run.units import UnitContext
from cpt_ray.errors import DataError
from cpt_ray.records import Document
from tests.data.read.test_formats import read, source, texts

from ..conftest import document, settings

pytestmark = pytest.mark.accept(data=4)

ROWS = [{"id": f"law_{number}", "text": document(f"law_{number}")} for number in range(60)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet(rows: list[dict[str, str]] = ROWS, row_group_size: int = 10) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=row_group_size)
    return out.getvalue()


def rejected(config: SourceConfig) -> list[tuple[str, str]]:
    return [(item.reason, item.id) for item in read(config) if isinstance(item, Rejected)]


def unit(config: SourceConfig, folder: Path, unit_bytes: int = 1000) -> tuple[list[ReadUnit], UnitContext]:
    """The tasks of a source and their context, as created by the pipeline."""
    context = UnitContext(folder=str(folder), sources=(config,), prepare=settings(unit_bytes=unit_bytes))
    tasks = [ReadUnit(unit=f"law-read-{t.index:05d}", source="law", read=t) for t in plan_reads(config, unit_bytes)]
    return tasks, context


# Truncated or damaged files: the loss cannot be counted, so they are errors under any policy.


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".zst", lambda data: pa.compress(data, "zstd", asbytes=True)), (".xz", lzma.compress)],
)
@pytest.mark.parametrize("keep", [0.3, 0.9, -1])
def test_a_packed_file_that_is_cut_short_is_named(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes], keep: float
) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    data = pack(LINES)
    path.write_bytes(data)
    config = source(path, "jsonl")
    assert len(texts(config)) == len(ROWS)
    path.write_bytes(data[: int(len(data) * keep)] if keep > 0 else data[:-1])
    with pytest.raises(DataError, match=rf"a\.jsonl\{suffix}: damaged or truncated after \d+ records: ") as caught:
        read(config)
    assert caught.value.fix == "fetch the file again, or leave it out of source law: the amount of lost data is unknown"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_file_with_a_flipped_bit_is_an_error_or_reads_as_it_was(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    # pyarrow writes no checksum to zstd frames; the zstd tool does, and gzip always has one.
    data = gzip.compress(LINES) if suffix == ".gz" else pa.compress(LINES, "zstd", asbytes=True)
    found = 0
    for at in range(20, len(data), len(data) // 25):
        path.write_bytes(data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :])
        try:
            items = read(source(path, "jsonl"))
        except DataError:
            found += 1
        else:
            assert suffix == ".zst" or [item.text for item in items if isinstance(item, Document)] == [r["text"] for r in ROWS]
    assert found > 5


def test_several_frames_or_members_in_one_file_are_one_file(tmp_path: Path) -> None:
    half = len(LINES) // 2
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES[:half]) + gzip.compress(LINES[half:]))
    frames = [pa.compress(piece, "zstd", asbytes=True) for piece in (LINES[:half], LINES[half:])]
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    for suffix in (".gz", ".zst"):
        assert texts(source(tmp_path / f"a.jsonl{suffix}", "jsonl")) == [row["text"] for row in ROWS]


def test_every_text_format_is_read_packed(tmp_path: Path) -> None:
    plain = {
        "jsonl": LINES,
        "json": json.dumps(ROWS).encode(),
        "csv": ("id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in ROWS)).encode(),
        "text": ROWS[0]["text"].encode(),
        "front_matter": b"---\nlanguage: de\n---\n" + ROWS[0]["text"].encode(),
    }
    for file_format, data in plain.items():
        wanted = [row["text"] for row in (ROWS[:1] if file_format in ("text", "front_matter") else ROWS)]
        for suffix, pack in {".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}.items():
            path = tmp_path / f"{file_format}.x{suffix}"
            path.write_bytes(pack(data))
            assert texts(source(path, file_format)) == wanted


@pytest.mark.parametrize("unit_bytes", [1000, 10**6])
def test_a_parquet_file_that_is_cut_or_damaged_is_named(tmp_path: Path, unit_bytes: int) -> None:
    path = tmp_path / "a.parquet"
    config = source(path, "parquet")
    data = parquet()
    for broken in (data[:-1], data[: len(data) // 2], b"PAR1", b""):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file, or truncated"):
            read(config, unit_bytes)
    damaged = bytearray(data)
    damaged[2000:2400] = bytes(400)
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"a\.parquet: damaged or truncated after \d+ records"):
        read(config, unit_bytes)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", LINES)
    config = source(f"zip://a.jsonl::{tmp_path}/a.zip", "jsonl")
    assert len(texts(config)) == len(ROWS)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"zip://a\.jsonl::.*a\.zip: damaged or truncated after \d+ records"):
        read(config)


def test_what_is_bad_in_an_archive_is_named_with_its_member(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, lines in (("first.jsonl", LINES), ("second.jsonl", b"{}\n" + LINES)):
            info = tarfile.TarInfo(name)
            info.size = len(lines)
            archive.addfile(info, io.BytesIO(lines))
    (bad,) = [item for item in read(source(tmp_path / "a.tar", "jsonl")) if isinstance(item, Rejected) and item.problem]
    assert bad.id == f"tar://second.jsonl::{tmp_path}/a.tar, line 1"
    with pytest.raises(DataError, match=rf"^tar://second\.jsonl::{tmp_path}/a\.tar, line 1: "):
        read(source(tmp_path / "a.tar", "jsonl", on_bad_record="fail"))


def test_a_file_that_is_whole_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    (task,) = plan_reads(source(path, "jsonl"), 10**6)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        with pytest.raises(DataError, match=r"a\.jsonl: cannot be read after 0 records: Too many open files") as caught:
            list(read_documents(task, source(path, "jsonl")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.value.fix.startswith("raise the limit of open files")


def test_a_json_list_that_breaks_off_is_named_with_the_element(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    whole = json.dumps(ROWS)
    for broken in (whole[: whole.index("law_3") + 40], whole.replace('{"id": "law_3"', '{"id": law_3', 1)):
        path.write_text(broken)
        with pytest.raises(DataError, match=r"a\.json, element 4: not JSON: .*; the rest of the list cannot be parsed"):
            read(source(path, "json"))
    path.write_text(whole + "[]")
    with pytest.raises(DataError, match=r"a\.json: unexpected content after the end of the list"):
        read(source(path, "json"))


def test_json_holds_a_list_or_one_object_and_says_so_where_it_is_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, indent=1))
    assert texts(source(path, "json", id_field="id")) == [row["text"] for row in ROWS]
    path.write_text(json.dumps(ROWS[5]))
    assert texts(source(path, "json")) == [ROWS[5]["text"]]
    path.write_text("\ufeff [ ] \n")
    assert read(source(path, "json")) == []
    path.write_bytes(LINES)
    with pytest.raises(DataError, match=r"a\.json: contains more than one JSON value") as caught:
        read(source(path, "json"))
    assert caught.value.fix == "set format of source law to jsonl, or make the file a JSON list"
    path.write_text('{"text": "never clo')
    assert rejected(source(path, "json")) == [("bad_json", str(path))]
    path.write_text('[{"text": "a"}, 5, {"body": "b"}, {"text": ["c"]}, {"text": "d"}]')
    assert rejected(source(path, "json")) == [
        ("bad_json", f"{path}, element 2"),
        ("missing_field", f"{path}, element 3"),
        ("not_text", f"{path}, element 4"),
    ]


def test_a_csv_quote_that_is_never_closed_is_named_and_does_not_swallow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,fine\n2,"open\n' + "3,more\n" * 50)
    with pytest.raises(DataError, match=r"a\.csv, line 3: the quote opened here is never closed"):
        read(source(path, "csv"))


def test_a_csv_row_that_is_none_is_dropped_by_its_line_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,fine\n2,too,many\n3\n4,"a"b\n5,"two\nlines"\n6,last\n')
    config = source(path, "csv", id_field="id")
    assert rejected(config) == [("bad_row", f"{path}, line {number}") for number in (3, 4, 5)]
    assert [item.id for item in read(config) if isinstance(item, Document)] == ["1", "5", "6"]
    assert sum(item.num_bytes for item in read(config) if isinstance(item, Rejected)) == len('2,too,many\n3\n4,"a"b\n')
    with pytest.raises(DataError, match=r"a\.csv, line 3: 3 columns, but the header has 2") as caught:
        read(config.model_copy(update={"on_bad_record": "fail"}))
    assert caught.value.fix.startswith("quote fields that contain commas, quotes or newlines, or repair this row; or set on_")


# Odd text, large text, empty files.


def test_an_empty_file_holds_nothing_and_says_so(tmp_path: Path) -> None:
    for file_format, wanted in {
        "jsonl": [],
        "csv": [],
        "json": ["empty"],
        "text": ["empty"],
        "front_matter": ["empty"],
    }.items():
        path = tmp_path / f"a.{file_format}"
        path.write_bytes(b"")
        assert [reason for reason, _ in rejected(source(path, file_format))] == wanted
        with pytest.raises(DataError, match="no such file"):
            read(source(tmp_path / f"none.{file_format}", file_format))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert read(source(tmp_path / "a.parquet", "parquet"), 1) == []


ODD = {
    "right to left": "שלום עולם \u202b مرحبا بالعالم \u202c end",
    "combining": "e\u0301 Z\u0351\u036b\u0343\u036a\u0302 n\u0303 \u1100\u1161\u11a8",
    "nul": "before\x00after",
    "separators": "a\u2028b\u2029c\x85d\x0be\x0cf\rg",
    "astral": "\U0001d518\U0001d52b \U0001f469\u200d\U0001f467 \U000f0000",
    "one character": "x" * 300_000,
    "bom inside": "a\ufeffb",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_text_comes_through_as_it_is(tmp_path: Path, name: str) -> None:
    text = ODD[name]
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": text}, ensure_ascii=False) + "\n")
    (tmp_path / "a.json").write_text(json.dumps([{"text": text}] * 2, ensure_ascii=False))
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "a.csv").write_bytes(b'text\n"' + text.encode() + b'"\n')
    pq.write_table(pa.table({"text": [text]}), tmp_path / "a.parquet")
    files = {"jsonl": "a.jsonl", "json": "a.json", "text": "a.txt", "csv": "a.csv", "parquet": "a.parquet"}
    for file_format, file in files.items():
        found = texts(source(tmp_path / file, file_format), 10**6)
        if (name, file_format) in (("nul", "jsonl"), ("nul", "json")):
            continue  # a raw NUL is not valid JSON: see below
        assert set(found) == {text}, file_format
        assert len(found) == (2 if file_format in ("jsonl", "json") else 1)


def test_a_raw_nul_in_json_is_bad_and_an_escaped_one_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a\x00b"}\n{"text": "a\\u0000b"}\n\x00\x00\x00\n')
    config = source(tmp_path / "a.jsonl", "jsonl")
    assert texts(config) == ["a\x00b"]
    assert [reason for reason, _ in rejected(config)] == ["bad_json", "bad_json"]


def test_text_that_is_not_utf8_is_rejected_in_every_format_and_in_every_field(tmp_path: Path) -> None:
    bad = b"caf\xe9"
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "' + bad + b'"}\n{"id": "\\ud800", "text": "t"}\n{"id": "ok", "text": "t"}\n')
    (tmp_path / "a.json").write_bytes(
        b'[{"text": "' + bad + b'", "id": 1}, {"id": "\\ud800", "text": "t"}, {"id": 3, "text": "t"}]'
    )
    (tmp_path / "a.csv").write_bytes(b"id,text\n1," + bad + b"\n" + bad + b",t\n3,t\n")
    (tmp_path / "a.text").write_bytes(bad)
    raw = pa.array([bad, b"t", b"t"], pa.binary())
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(pa.table({"text": text, "id": ["1", "2", "3"]}), tmp_path / "a.parquet")
    for file_format, count in {"jsonl": 2, "json": 2, "csv": 2, "text": 1, "parquet": 1}.items():
        config = source(tmp_path / f"a.{file_format}", file_format, id_field=None if file_format == "text" else "id")
        reasons = [reason for reason, _ in rejected(config)]
        assert reasons.count("bad_encoding") + reasons.count("missing_field") == count, file_format
        assert len(read(config)) - len(reasons) == (0 if file_format == "text" else 3 - count)


def test_a_number_that_is_too_long_to_parse_is_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": ' + "9" * 5000 + '}\n{"text": "b"}\n' + "[" * 100_000 + "\n")
    config = source(tmp_path / "a.jsonl", "jsonl")
    assert texts(config) == ["b"]
    assert [reason for reason, _ in rejected(config)] == ["bad_json", "bad_json"]


@pytest.mark.parametrize("megabytes", [8, pytest.param(200, marks=pytest.mark.full)])
@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv", "text", "parquet"])
def test_a_single_very_large_document_passes_whole(tmp_path: Path, file_format: str, megabytes: int) -> None:
    text = ("word and number 12345 " * (megabytes * 50_000))[: megabytes * 1_000_000]
    path = tmp_path / f"a.{file_format}"
    rows = [{"text": "before"}, {"text": text}, {"text": "after"}]
    if file_format == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif file_format == "json":
        path.write_text(json.dumps(rows))
    elif file_format == "csv":
        path.write_text("text\n" + "".join(f'"{row["text"]}"\n' for row in rows))
    elif file_format == "text":
        path.write_text(text)
        rows = rows[1:2]
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    tasks, context = unit(source(path, file_format, long_text="drop"), tmp_path / "out", 1_000_000)
    reports = [read_unit(task, context) for task in tasks]
    kept = [report.reports[0].kept for report in reports]
    assert sum(amount.documents for amount in kept) == len(rows)
    assert sum(amount.bytes for amount in kept) == sum(len(row["text"]) for row in rows)


def test_bad_records_beyond_half_of_a_thousand_stop_the_unit_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "x"}\n' * 3000)
    message = r"line 1000: no field 'text'; fields present: body; so far 1000 of 1000 records are bad"
    with pytest.raises(DataError, match=message):
        read(source(path, "jsonl"), 10**6)
    assert len(read(source(path, "jsonl", max_bad_share=1.0), 10**6)) == 3000


def test_documents_with_the_same_given_id_are_all_kept_and_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": f"same_{number % 3}", "text": f"text {number}"}) + "\n" for number in range(8)))
    tasks, context = unit(source(path, "jsonl", id_field="id"), tmp_path / "out")
    report = read_unit(tasks[0], context)
    assert report.reports[0].kept.documents == 8
    raw = pq.read_table(context.root / report.path("raw")).to_pylist()
    assert [(row["identity"], row["id"]) for row in raw] == [(f"law/00000/{n}", f"same_{n % 3}") for n in range(8)]
