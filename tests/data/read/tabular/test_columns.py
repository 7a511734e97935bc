"""Rows of Parquet files and of Arrow streams become documents."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.data.read import Rejected, plan_reads
from cpt_ray.errors import DataError
from tests.data.read.test_formats import read, source, texts


def test_parquet_is_split_by_row_groups(tmp_path: Path) -> None:
    rows = [f"row {number} " + "abc" * 20 for number in range(50)]
    pq.write_table(pa.table({"text": rows, "lang": ["de"] * 50}), tmp_path / "a.parquet", row_group_size=10)
    config = source(tmp_path / "a.parquet", "parquet", language_field="lang")
    assert len(plan_reads(config, 1000)) == 5
    assert texts(config) == rows
    assert {item.language for item in read(config)} == {"de"}


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("hello, no parquet here")
    for unit_bytes in (1000, 1):  # found by a worker, or by the driver when it splits a large file
        with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file, or truncated") as caught:
            read(source(tmp_path / "a.parquet", "parquet"), max(unit_bytes, 1))
        assert caught.value.fix == "check path and format of source law; fetch the file again if it was truncated"


def write_arrow(path: Path, table: pa.Table, rows_per_batch: int) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows_per_batch)
    return path


@pytest.mark.parametrize("rows_per_batch", [1, 7, 1000])
def test_a_stream_is_read_in_order_whatever_its_batches(tmp_path: Path, rows_per_batch: int) -> None:
    rows = [f"row {number}" for number in range(600)]
    path = write_arrow(tmp_path / "a.arrow", pa.table({"n": list(range(600)), "text": rows}), rows_per_batch)
    assert texts(source(path, "arrow")) == rows


def test_what_is_no_stream_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(b"hello, no Arrow here")
    with pytest.raises(DataError, match=r"a\.arrow: not an Arrow stream") as caught:
        read(source(tmp_path / "a.arrow", "arrow"))
    assert "source law" in caught.value.fix


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_every_type_of_text_is_text(tmp_path: Path, kind: pa.DataType) -> None:
    path = write_arrow(tmp_path / "a.arrow", pa.table({"text": pa.array(["one", None, "two"]).cast(kind)}), 10)
    items = read(source(path, "arrow"))
    assert [getattr(item, "text", "") for item in items] == ["one", "", "two"]
    assert isinstance(items[1], Rejected)
    assert items[1].reason == "empty"


def test_a_bad_row_is_named_by_its_number_in_the_file_even_in_a_later_task(tmp_path: Path) -> None:
    ids = pa.array([b"a", b"b", b"\xff", b"d"], pa.binary())
    raw = pa.StringArray.from_buffers(4, ids.buffers()[1], ids.buffers()[2])
    pq.write_table(pa.table({"text": ["x" * 200] * 4, "id": raw}), tmp_path / "a.parquet", row_group_size=2)
    bad = [item for item in read(source(tmp_path / "a.parquet", "parquet", id_field="id"), 100) if isinstance(item, Rejected)]
    assert [(item.reason, item.id) for item in bad] == [("bad_encoding", f"{tmp_path}/a.parquet, row 3")]
