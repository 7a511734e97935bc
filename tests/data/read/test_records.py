"""The first records of files of every format."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from cpt_ray.data.read.records import first_records
from cpt_ray.edges.source_files import list_source_files
from cpt_ray.errors import DataError
from tests.data.read.test_formats import source

ROWS = [{"id": str(number), "text": f"text {number}, with; marks", "meta": {"lang": "de"}} for number in range(30)]
FLAT = [{"id": row["id"], "text": row["text"]} for row in ROWS]


def read(path):
    (file,) = list_source_files(str(path))
    return first_records(file, source(path, "auto"))


def test_twenty_records_of_each_format_are_read_as_they_stand(tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "c.json").write_text(lines)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "e.parquet")
    pa.feather.write_feather(pa.Table.from_pylist(ROWS), tmp_path / "f.arrow")
    for name in ("a.jsonl", "b.json", "c.json", "d.jsonl.gz", "e.parquet", "f.arrow"):
        assert read(tmp_path / name) == ROWS[:20], name
    (tmp_path / "g.json").write_text(json.dumps(ROWS[0], indent=1))
    assert read(tmp_path / "g.json") == ROWS[:1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_rows_of_csv_are_read_with_their_delimiter(tmp_path, delimiter):
    rows = [f'{row["id"]}{delimiter}"{row["text"]}"' for row in FLAT]
    (tmp_path / "a.csv").write_text("\n".join([f"id{delimiter}text", *rows]))
    assert read(tmp_path / "a.csv") == FLAT[:20]


def test_what_is_no_record_is_passed_over(tmp_path):
    (tmp_path / "a.jsonl").write_text('not JSON\n[1]\n{"text": "a"}\n')
    assert read(tmp_path / "a.jsonl") == [{"text": "a"}]
    (tmp_path / "b.json").write_text('[{"text": "a"}, {"text": "b"')
    assert read(tmp_path / "b.json") == [{"text": "a"}]
    (tmp_path / "c.json").write_text("")
    assert read(tmp_path / "c.json") == []


def test_a_table_that_is_none_is_an_error(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as a table"):
        read(tmp_path / "a.parquet")
