"""How a source is divided into tasks: small files are grouped, large ones split if their format allows."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.data.read import Rejected, plan_reads
from cpt_ray.data.read.plan import source_files, survey_source
from cpt_ray.errors import DataError
from tests.data.read.test_formats import read, source, texts, write_jsonl


@pytest.mark.parametrize("unit_bytes", [30, 64, 100, 1000, 10**6])
def test_byte_ranges_yield_every_line_once_and_in_order(tmp_path: Path, unit_bytes: int) -> None:
    rows = [{"text": f"line {number} " + "x" * (number % 40)} for number in range(100)]
    config = source(write_jsonl(tmp_path / "a.jsonl", rows), "jsonl")
    assert texts(config, unit_bytes) == [row["text"] for row in rows]
    assert len(plan_reads(config, unit_bytes)) == -(-(tmp_path / "a.jsonl").stat().st_size // unit_bytes)


def test_small_files_are_grouped_and_sorted(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        (tmp_path / f"{name}.txt").write_text(name * 400)
    config = source(tmp_path / "*.txt", "text")
    assert [len(task.parts) for task in plan_reads(config, 1000)] == [2, 1]
    assert [item.id for item in read(config)] == ["a", "b", "c"]


def test_gzip_is_one_task(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(b'{"text": "t%d"}\n' % n for n in range(500))))
    config = source(tmp_path / "a.jsonl.gz", "jsonl")
    assert len(plan_reads(config, 100)) == 1
    assert len(texts(config, 100)) == 500


def test_a_large_file_of_another_kind_is_left_out_once_and_not_split(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xd8\xff\xe0" + b"\x00 a line\n" * 500)
    config = source(tmp_path / "a.jsonl", "jsonl")
    assert [len(task.parts) for task in plan_reads(config, 100)] == [1]
    (item,) = read(config, 100)
    assert isinstance(item, Rejected)
    assert (item.reason, item.num_bytes) == ("left_out.image", (tmp_path / "a.jsonl").stat().st_size)


def test_parts_of_a_large_file_cover_it_without_gap_or_overlap(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 250)
    parts = [part for task in plan_reads(source(path, "jsonl"), 100) for part in task.parts]
    assert [(part.start, part.end) for part in parts] == [(0, 100), (100, 200), (200, 250)]
    assert {part.size_bytes for part in parts} == {250}


def test_a_split_file_shares_no_task_with_its_neighbors(tmp_path: Path) -> None:
    for name, size in (("a", 10), ("b", 150), ("c", 10), ("d", 10)):
        (tmp_path / f"{name}.jsonl").write_bytes(b"x" * size)
    tasks = plan_reads(source(tmp_path / "*.jsonl", "jsonl"), 100)
    assert [[Path(part.path).stem for part in task.parts] for task in tasks] == [["a"], ["b"], ["b"], ["c", "d"]]
    assert [task.index for task in tasks] == [0, 1, 2, 3]


def test_row_groups_of_a_large_parquet_file_are_dealt_out_whole(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["word " * 40] * 60}), tmp_path / "a.parquet", row_group_size=10, use_dictionary=False)
    parts = [part for task in plan_reads(source(tmp_path / "a.parquet", "parquet"), 6000) for part in task.parts]
    assert [part.row_groups for part in parts] == [(0, 1), (2, 3), (4, 5)]
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert (parts[0].start, parts[-1].end) == (0, (tmp_path / "a.parquet").stat().st_size)


def test_a_limit_makes_one_task_so_that_it_follows_the_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 250)
    (task,) = plan_reads(source(path, "jsonl", limit_documents=3), 100)
    assert len(task.parts) == 3


def test_a_file_that_two_patterns_name_is_read_once(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    config = source(path, "jsonl").model_copy(update={"path": (str(path), str(tmp_path / "*.jsonl"))})
    assert [file.path for file in source_files(config)[1]] == [str(path)]


@pytest.mark.parametrize("pattern", ["none.jsonl", "*.none"])
def test_a_pattern_that_names_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        plan_reads(source(tmp_path / pattern, "jsonl"), 100)


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.GZ"])
def test_a_parquet_file_that_is_compressed_by_its_content_is_one_task(tmp_path: Path, name: str) -> None:
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(500)]}), tmp_path / "plain", row_group_size=50)
    (tmp_path / name).write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    config = source(tmp_path / name, "parquet")
    assert len(plan_reads(config, 100)) == 1
    assert texts(config, 100) == [f"text {number}" for number in range(500)]


def test_a_large_parquet_file_without_rows_is_one_task(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert len(plan_reads(source(tmp_path / "a.parquet", "parquet"), 10)) == 1


def test_a_mixed_folder_is_listed_in_linear_time(tmp_path: Path) -> None:
    # Comparing each image with every text takes minutes at this size.
    for number in range(10_000):
        (tmp_path / f"{number:05d}.txt").touch()
        (tmp_path / f"{number:05d}.png").touch()
    found = survey_source(source(tmp_path, "text"))
    assert [Path(file.path).name for file in found.files] == [f"{number:05d}.txt" for number in range(10_000)]
    assert [(Path(item.path).name, item.kind) for item in found.left_out] == [
        (f"{number:05d}.png", "image") for number in range(10_000)
    ]
