"""CSV: what a stray quote swallows, and rows that run into one another, are read or counted; quoted text stays whole."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from cpt_ray.data.read import Rejected
from cpt_ray.errors import DataError
from cpt_ray.records import Document
from tests.data.read.test_field_cases import counted
from tests.data.read.test_formats import read, source, texts

pytestmark = pytest.mark.accept(inputs=1)


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


ROWS = {
    "numbers": [f"{7 * n},text of row {n}" for n in range(40)],
    "prefix": [f"law_{n * n % 37},text of row {n}" for n in range(40)],
    "hashes": [f"{random.Random(n).getrandbits(64):016x},text of row {n}" for n in range(40)],
    "words": [f"{'de' if n % 3 else 'en'},text of row {n}" for n in range(40)],
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("swallowed", [1, 2])
@pytest.mark.parametrize("turned", [False, True], ids=["id first", "text first"])
def test_one_or_two_rows_behind_a_stray_quote_are_read(tmp_path: Path, kind: str, swallowed: int, turned: bool) -> None:
    rows = list(ROWS[kind])
    if turned:
        rows = [",".join(reversed(row.split(","))) for row in rows]
        rows[20], rows[20 + swallowed] = f'"{rows[20]}', rows[20 + swallowed].replace(",", '",')
    else:
        rows[20], rows[20 + swallowed] = rows[20].replace(",", ',"'), rows[20 + swallowed] + '"'
    path = write(tmp_path / "a.csv", "text,id" if turned else "id,text", rows)
    assert counted(source(path, "csv", id_field="id")) == (39, {"bad_row": 1})
    (bad,) = [item for item in read(source(path, "csv")) if isinstance(item, Rejected)]
    assert bad.id.endswith("a.csv, line 22")
    assert f"the quote opened in line 22 ends in line {22 + swallowed}, and the lines between are read as rows" in bad.preview


LINES = {
    "prose": "he came, and she went\nthen, at last, they met",
    "short verse": "roses\nred,blue\ngreen",
    "decimal commas": "Die Kosten stiegen um\n3,5 Prozent",
    "a decimal comma at the end": "Die Kosten stiegen\num 0,1",
    "places": "born in\nBerlin,Germany",
    "a table": "a,b\nc,d",
    "a long table": "Results:\nalpha,1\nbeta,2\ngamma,3\nend of table, as measured",
    "an id of another kind": "see\nart_5,paragraph 2",
    "blank lines": "one\n\ntwo,three\n",
}


def test_a_table_in_the_first_row_is_not_torn_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text", [f'1,"{LINES["a long table"]}"', '2,"plain"'])
    assert texts(source(path, "csv", id_field="id")) == [LINES["a long table"], "plain"]


@pytest.mark.parametrize("lines", LINES)
@pytest.mark.parametrize("kind", ROWS)
def test_text_of_several_lines_in_quotes_stays_whole(tmp_path: Path, kind: str, lines: str) -> None:
    rows = list(ROWS[kind])
    name, _ = rows[20].split(",")
    rows[20] = f'{name},"{LINES[lines]}"'
    path = write(tmp_path / "a.csv", "id,text", rows)
    assert counted(source(path, "csv", id_field="id")) == (40, {})
    assert LINES[lines] in texts(source(path, "csv"))


def test_a_label_of_digits_is_no_evidence(tmp_path: Path) -> None:
    rows = [f"text {n},{n % 2}" for n in range(40)]
    rows[20] = '"Die Kosten stiegen\num 0,1 und\nsanken um 2,0",1'
    assert counted(source(write(tmp_path / "a.csv", "text,label", rows), "csv")) == (40, {})


def test_rows_behind_a_quote_that_leave_too_few_columns_are_read(tmp_path: Path) -> None:
    rows = [f"{n},text of row {n},de" for n in range(40)]
    rows[20], rows[22] = '20,"open,de', '22,more,de"'
    assert counted(source(write(tmp_path / "a.csv", "id,text,lang", rows), "csv", id_field="id")) == (39, {"bad_row": 1})


# Members of compressed files.


def members(path: Path, *parts: str) -> Path:
    path.write_bytes(b"".join(gzip.compress(part.encode()) for part in parts))
    return path


def test_rows_that_run_into_one_another_between_members_are_read(tmp_path: Path) -> None:
    path = members(tmp_path / "a.csv.gz", "id,text\n1,één\n2,two", '3,"three"', "4,four\n5,five\n")
    assert [(i.id, i.text) for i in read(source(path, "csv", id_field="id")) if isinstance(i, Document)] == [
        *(("1", "één"), ("2", "two"), ("3", "three"), ("4", "four"), ("5", "five"))
    ]
    assert counted(source(path, "csv")) == (5, {})


def test_members_that_end_within_a_row_are_put_together(tmp_path: Path) -> None:
    text = "id,text\n" + "".join(f'{n},"text, of row {n}"\n' for n in range(500))
    path = members(tmp_path / "a.csv.gz", *(text[at : at + 37] for at in range(0, len(text), 37)))
    assert texts(source(path, "csv")) == [f"text, of row {n}" for n in range(500)]


def test_a_header_that_comes_again_is_no_document(tmp_path: Path) -> None:
    path = members(tmp_path / "a.csv.gz", "id,text\n1,one\n", "id,text\n2,two", "id,text\n3,three\n")
    config = source(path, "csv", id_field="id")
    assert counted(config) == (3, {"bad_row": 1})
    (bad,) = [item for item in read(config) if isinstance(item, Rejected)]
    assert bad.preview.startswith("the header again: files were appended to one another: id,text")
    assert bad.id.endswith("line 3")


def test_a_row_that_is_none_in_a_compressed_file_is_counted_as_such(tmp_path: Path) -> None:
    path = members(tmp_path / "a.csv.gz", "id,text\n1,one,too many\n2", ",two\n3,three,too many", "\n4,four\n")
    assert counted(source(path, "csv")) == (2, {"bad_row": 2})


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_line_that_names_the_delimiter_is_no_header(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.csv").write_text(f"{line}\nid;text\n1;one, two\n")
    assert texts(source(tmp_path / "a.csv", "csv", id_field="id")) == ["one, two"]


def test_a_first_line_that_is_no_header_is_shown_in_short(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'1,"{"word " * 1000}"\n2,two\n')
    with pytest.raises(DataError, match=r"no column 'text'; columns present: 1, (word )+") as caught:
        read(source(tmp_path / "a.csv", "csv"))
    assert len(caught.value.problem) < 300
