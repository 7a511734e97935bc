"""Inputs as people have them: what a file holds is read, or counted under a reason; counts in are counts of what it holds."""

from __future__ import annotations

import bz2
import datetime
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import Rejected
from cpt_ray.errors import DataError
from cpt_ray.records import Document
from tests.data.read.test_formats import read, source, texts

pytestmark = pytest.mark.accept(inputs=1)

PAGE = (
    "<html><head><title>T</title><script>var a = 1;</script></head><body><nav><a href='/'>Home</a></nav><main><h1>Lease</h1>"
    "<p>The tenant pays the rent on the first day of each month, and the landlord keeps the roof in good repair.</p>"
    "<p>Either party may end the lease with three months of notice, given in writing.</p></main>"
    "<footer>Imprint</footer></body></html>"
)


def counted(config: SourceConfig, unit_bytes: int = 10**6) -> tuple[int, dict[str, int]]:
    """Documents, and rejections by reason."""
    items = read(config, unit_bytes)
    return sum(isinstance(i, Document) for i in items), dict(Counter(i.reason for i in items if isinstance(i, Rejected)))


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def parquet_bytes(rows: list[str]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": rows}), out)
    return out.getvalue()


# Archives.

MEMBERS = {
    "in/a.txt": b"one",
    "in/b.jsonl": b'{"text": "two"}\n{"text": "three"}',
    "in/c.parquet": parquet_bytes(["four", "five"]),
    "in/d.csv.gz": gzip.compress(b"text\nsix\n"),
    "in/e.pdf": b"%PDF-1.7",
    "in/.f.txt": b"hidden",
    "in/g.txt": b"%PDF-1.7 called text",
}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.xz", "tar.bz2", "zip", "tar.zst"])
def test_an_archive_is_read_by_member_and_never_as_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in MEMBERS.items():
                archive.writestr(name, data)
    elif suffix == "tar.zst":
        plain = tar(tmp_path / "plain", MEMBERS)
        path.write_bytes(pa.compress(plain.read_bytes(), "zstd", asbytes=True))
    else:
        tar(path, MEMBERS, {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}[suffix])
    for unit_bytes in (100, 10**6):
        assert sorted(texts(source(path, "auto"), unit_bytes)) == sorted(["one", "two", "three", "four", "five", "six"])
    assert counted(source(path, "auto"))[1] == {"left_out.pdf": 2, "left_out.hidden": 1}


def test_a_glob_of_archives_of_texts_gives_every_text(tmp_path: Path) -> None:
    for number in range(60):
        members = {f"document-{n}.txt": f"text number {n}".encode() for n in (2 * number, 2 * number + 1)}
        tar(tmp_path / f"batch-{number}.tar.gz", members, "w:gz")
    config = source(tmp_path / "*.tar.gz", "text")
    assert counted(config) == (120, {})
    assert {item.id for item in read(config) if isinstance(item, Document)} == {f"document-{n}" for n in range(120)}


def test_a_link_in_a_tar_an_encrypted_member_and_a_cut_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("link.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert counted(source(tmp_path / "a.tar", "text")) == (0, {"left_out.link": 1})
    whole = tar(tmp_path / "b.tar.gz", {f"{n}.txt": b"some text " * 1000 for n in range(50)}, "w:gz").read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b\.tar\.gz: damaged or truncated after \d+ records"):
        read(source(tmp_path / "b.tar.gz", "text"))
    (tmp_path / "c.zip").write_bytes(b"not a zip at all")
    with pytest.raises(DataError, match=r"c\.zip: damaged or truncated after 0 records"):
        read(source(tmp_path / "c.zip", "text"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"%PDF-1.7\n...", "pdf"),
        (b"PK\x03\x04" + b"a" * 100, "archive"),
        (b"7z\xbc\xaf\x27\x1c", "archive"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (parquet_bytes(["x"]), "parquet"),
        (bytes(range(256)) * 4, "binary"),
        (b"\x7fELF\x02", "binary"),
    ],
    ids=["pdf", "zip", "7z", "png", "parquet", "bytes", "program"],
)
def test_bytes_of_another_kind_are_never_text_whatever_the_file_is_called(tmp_path: Path, data: bytes, kind: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b.txt").write_text("text")
    assert counted(source(tmp_path / "*.txt", "text")) == (1, {f"left_out.{kind}": 1})


def test_a_tar_without_its_suffix_is_left_out(tmp_path: Path) -> None:
    tar(tmp_path / "a.txt", {"x": b"y"})
    assert counted(source(tmp_path / "a.txt", "text")) == (0, {"left_out.archive": 1})


# Compression.


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_members_without_a_last_newline_lose_no_line(tmp_path: Path, suffix: str, pack: object) -> None:
    rows = [json.dumps({"text": f"line {n}", "n": {"m": "}{"}}) for n in range(200)]
    parts = [pack("\n".join(rows[i : i + 50]).encode()) for i in range(0, 200, 50)]  # type: ignore[operator]
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(b"".join(parts))
    assert counted(source(tmp_path / f"a.jsonl.{suffix}", "jsonl")) == (200, {})
    (tmp_path / "b.jsonl").write_text('{"text": "a"} {"text": "b"}{"text": \n{"text": "c"}5{"text": "d"}\n')
    assert counted(source(tmp_path / "b.jsonl", "jsonl")) == (4, {"bad_json": 2})


def test_compression_is_known_by_content(tmp_path: Path) -> None:
    lines = b'{"text": "packed"}\n' * 100
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(lines))
    (tmp_path / "b.jsonl.gz").write_bytes(lines)
    for name in ("a.jsonl", "b.jsonl.gz"):
        for unit_bytes in (20, 10**6):
            assert counted(source(tmp_path / name, "jsonl"), unit_bytes) == (100, {})


# CSV.


def test_rows_between_two_stray_quotes_are_read(tmp_path: Path) -> None:
    rows = [f"{n},text of row {n}" for n in range(400)]
    rows[50], rows[350] = '50,"an opening quote that nobody closes', '350,"a second stray quote'
    (tmp_path / "a.csv").write_text("id,text\n" + "\n".join(rows) + "\n")
    with pytest.raises(
        DataError, match=r"a\.csv, line 352: the quote opened here is never closed; neither is the one in line 52"
    ):
        read(source(tmp_path / "a.csv", "csv"))
    rows[350] = '350,a "second" stray quote"'
    (tmp_path / "a.csv").write_text("id,text\n" + "\n".join(rows) + "\n")
    config = source(tmp_path / "a.csv", "csv", id_field="id")
    assert counted(config) == (399, {"bad_row": 1})
    (bad,) = [item for item in read(config) if isinstance(item, Rejected)]
    assert bad.id.endswith("line 52")
    assert "the quote opened in line 52 ends in line 352, and the lines between are read as rows" in bad.preview


@pytest.mark.parametrize("end", ['350;more";de', '350;more;de"'], ids=["within a line", "at the end of a line"])
def test_rows_that_a_field_could_hold_are_rows(tmp_path: Path, end: str) -> None:
    rows = [f"{n};text of row {n};de" for n in range(400)]
    rows[50], rows[350] = '50;"open;de', end
    (tmp_path / "a.csv").write_text("id;text;lang\n" + "\n".join(rows) + "\n")
    assert counted(source(tmp_path / "a.csv", "csv", id_field="id")) == (399, {"bad_row": 1})


def test_prose_and_verse_in_quotes_stay_whole(tmp_path: Path) -> None:
    verse = "\n".join(
        f"Shall I compare thee, dear, to summer's day {n}\nThou art more lovely and, more temperate" for n in range(20)
    )
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{verse}"\n2,"one, two\nthree, four\nfive, six\n"\n')
    assert texts(source(tmp_path / "a.csv", "csv")) == [verse, "one, two\nthree, four\nfive, six\n"]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("names", [("id", "text", "lang"), ('"id"', '"text"', '"lang"')], ids=["plain", "in quotes"])
def test_the_delimiter_is_found(tmp_path: Path, mark: str, names: tuple[str, ...]) -> None:
    (tmp_path / "a.csv").write_text(mark.join(names) + "\n" + mark.join(["1", '"a, b; c | d"', "de"]) + "\n")
    config = source(tmp_path / "a.csv", "csv", language_field="lang")
    assert [(item.text, item.language) for item in read(config)] == [("a, b; c | d", "de")]


# Typed formats.


def test_one_odd_file_of_typed_columns_does_not_decide_for_the_others(tmp_path: Path) -> None:
    good = {"id": [str(n) for n in range(50)], "text": [f"text {n}" for n in range(50)]}
    pq.write_table(pa.table(good), tmp_path / "0.parquet")
    pq.write_table(pa.table({"id": ["a", "b"], "text": pa.nulls(2)}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"id": ["c"], "text": [5]}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"id": ["d"], "text": pa.array(["x"]).cast(pa.binary())}), tmp_path / "3.parquet")
    pq.write_table(pa.table({"id": ["e"], "text": pa.array([b"\xff"], pa.binary())}), tmp_path / "4.parquet")
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), tmp_path / "5.parquet")
    wanted = (51, {"empty": 2, "not_text": 1, "bad_encoding": 1})
    assert counted(source(tmp_path / "*.parquet", "parquet", id_field="id")) == wanted


def test_a_date_that_python_cannot_hold_costs_the_date_and_not_the_row(tmp_path: Path) -> None:
    far = pa.array([10**15, None, 0], pa.int64()).cast(pa.timestamp("s"))
    nowhere = pa.array([0, 1, 2], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp("s", "Mars/Olympus"), safe=False)
    for name, column in {"far": far, "nowhere": nowhere}.items():
        table = pa.table({"text": ["a", "b", "c"], "when": column, "meta": pa.StructArray.from_arrays([column], ["when"])})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        pa.feather.write_feather(table, tmp_path / f"{name}.arrow")
        for file_format in ("parquet", "arrow"):
            for field in ("when", "meta.when"):
                config = source(tmp_path / f"{name}.{file_format}", file_format, date_field=field)
                assert texts(config) == ["a", "b", "c"]
    config = source(tmp_path / "far.parquet", "parquet", date_field="when")
    epoch = datetime.datetime(1970, 1, 1).isoformat()
    assert [item.date for item in read(config) if isinstance(item, Document)] == [None, None, epoch]


def test_a_column_name_that_stands_twice_is_refused_where_it_is_used_and_ignored_elsewhere(tmp_path: Path) -> None:
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([2])], ["text", "n", "n"]), tmp_path / "a.parquet"
    )
    assert texts(source(tmp_path / "a.parquet", "parquet")) == ["a"]
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "b.parquet")
    (tmp_path / "b.csv").write_text("text,text\na,b\n")
    for name in ("b.parquet", "b.csv"):
        with pytest.raises(DataError, match=r"2 columns are called 'text'; columns present: text, text"):
            read(source(tmp_path / name, name.split(".")[1]))


def test_partitions_in_the_path_are_columns(tmp_path: Path) -> None:
    for name in ("lang=de", "lang=pt%20BR", "lang=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / "t" / name).mkdir(parents=True)
        pq.write_table(pa.table({"text": [name]}), tmp_path / "t" / name / "part-0.parquet")
        (tmp_path / "t" / name / "a.txt").write_text(name)
    (tmp_path / "t/_SUCCESS").write_text("")
    for file_format in ("parquet", "text"):
        config = source(tmp_path / "t", file_format, language_field="lang")
        assert {item.language for item in read(config) if isinstance(item, Document)} == {"de", "pt BR", None}


@pytest.mark.parametrize("file_format", ["jsonl", "json", "parquet", "arrow"])
def test_a_dotted_path_goes_into_records_and_a_key_with_a_dot_wins(tmp_path: Path, file_format: str) -> None:
    rows = [{"id": str(n), "doc": {"text": f"text {n}", "meta": {"lang": "de"}}, "meta.lang": "fr"} for n in range(3)]
    path = tmp_path / f"a.{file_format}"
    if file_format == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif file_format == "json":
        path.write_text(json.dumps(rows))
    else:
        write = pq.write_table if file_format == "parquet" else pa.feather.write_feather
        write(pa.Table.from_pylist(rows), path)
    for field, wanted in {"doc.meta.lang": "de", "meta.lang": "fr", "doc.none": None, "id.lang": None}.items():
        items = read(source(path, file_format, text_field="doc.text", id_field="id", language_field=field))
        assert [(i.text, i.language) for i in items if isinstance(i, Document)] == [(f"text {n}", wanted) for n in range(3)]


# Folders.


def test_a_folder_is_read_by_extension_and_what_is_left_out_is_counted_by_kind(tmp_path: Path) -> None:
    files = {
        "a.txt": b"text",
        "sub/b.md": b"# Markdown",
        "sub/c.html": PAGE.encode(),
        "d.jsonl": b'{"text": "line"}\n',
        "e.json": b'[{"text": "listed"}]',
        "f.json": b'{"text": "lines"}\n{"text": "in json"}\n',
        "g.csv": b"id;text\n1;semicolon\n",
        "h.tsv": b"id\ttext\n1\ta, b, c\n",
        "i.parquet": parquet_bytes(["column"]),
        "j.txt.gz": gzip.compress(b"packed"),
        "k.pdf": b"%PDF-1.4",
        "l.png": b"\x89PNG",
        "m.docx": b"PK\x03\x04",
        "n.xyz": b"?",
        "README": b"no extension",
        ".git/config": b"[core]",
        ".o.txt": b"hidden",
        "empty.txt": b"",
        "space.txt": b" \n\t\n",
        "zero.parquet": parquet_bytes([]),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    config = source(tmp_path, "auto")
    wanted = {"text", "# Markdown", "line", "listed", "lines", "in json", "semicolon", "a, b, c", "column", "packed"}
    for unit_bytes in (10, 10**6):
        found = texts(config, unit_bytes)
        assert wanted < set(found)
        assert len(found) == len(wanted) + 1
    (page,) = set(found) - wanted
    assert "The tenant pays the rent" in page
    assert not any(word in page for word in ("<p>", "var a", "Home", "Imprint"))
    left = {"pdf": 1, "image": 1, "office": 1, "unknown": 2, "hidden": 2}
    assert counted(config)[1] == {"empty": 2, **{f"left_out.{kind}": count for kind, count in left.items()}}
    assert texts(SourceConfig.model_validate({"name": "law", "role": "domain", "path": str(tmp_path)}), 10**6) == found
    assert texts(source(tmp_path, "jsonl")) == ["line"]


def test_a_folder_or_file_without_a_known_format_is_refused_with_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-")
    (tmp_path / "LICENSE").write_text("text")
    message = (
        r"source law: none of its files has a format that is known by its name; left out: 1 unknown, 1 pdf, such as .*LICENSE"
    )
    with pytest.raises(DataError, match=message):
        read(source(tmp_path, "auto"))
    with pytest.raises(DataError, match="left out: 1 unknown"):
        read(source(tmp_path / "LICENSE", "auto"))
    assert texts(source(tmp_path / "LICENSE", "text")) == ["text"]


def test_a_limit_counts_documents_and_not_what_is_left_out(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf", "c.txt", "d.txt", "e.txt"):
        (tmp_path / name).write_text(name)
    config = source(tmp_path, "auto", limit_documents=2)
    assert counted(config) == (2, {"left_out.pdf": 2})


def test_archives_in_archives_and_other_compressions_are_named_by_kind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in {"in.zip": b"PK\x03\x04", "in.tar": b"", "in.tgz": b"", "a.txt": b"text"}.items():
            archive.writestr(name, data)
    assert counted(source(tmp_path / "a.zip", "auto")) == (1, {"left_out.archive": 3})
    (tmp_path / "b.jsonl").write_bytes(b"\x04\x22\x4d\x18...")
    assert counted(source(tmp_path / "b.jsonl", "jsonl")) == (0, {"left_out.compressed": 1})
    (tmp_path / "c.jsonl.lz4").write_bytes(b"\x04\x22\x4d\x18...")
    with pytest.raises(DataError, match="left out: 1 compressed, such as") as caught:
        read(source(tmp_path / "c.jsonl.lz4", "auto"))
    assert caught.value.fix == "decompress the files, or compress them with gzip, zstd, bz2 or xz"
