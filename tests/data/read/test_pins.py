"""The input files of a unit are pinned, and compared with the files present later."""

import hashlib
import itertools
import os
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cpt_ray.data.read import check_inputs, plan_reads
from cpt_ray.data.read.pins import pin_inputs
from cpt_ray.data.run.document_tasks import read_unit
from cpt_ray.errors import DataError
from tests.data.read.test_bad_files import LINES, ROWS, parquet, unit
from tests.data.read.test_formats import source


@pytest.mark.accept(data=4)
@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_a_finished_artifact_notices_changed_bytes_and_forgives_a_touched_or_moved_file(
    tmp_path: Path, file_format: str
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    data = (
        {"a": LINES, "b": LINES.replace(b"law", b"tax")} if file_format == "jsonl" else {"a": parquet(), "b": parquet(ROWS[:9])}
    )
    for name, content in data.items():
        (old / f"{name}.x").write_bytes(content)
    config = source(old / "*.x", file_format)
    tasks, context = unit(config, tmp_path / "out")
    listed = (old / "a.x").stat()
    assert len(tasks) > 3
    inputs = [entry for task in tasks for entry in read_unit(task, context).files if entry.path.startswith("inputs/")]
    rows = [row for entry in inputs for row in pq.read_table(context.root / entry.path).to_pylist()]
    assert [Path(row["path"]).name for row in rows] == sorted(Path(row["path"]).name for row in rows)
    for name, content in data.items():  # the parts of a file cover it without gap or overlap
        parts = [(row["start"], row["end"]) for row in rows if row["path"].endswith(f"{name}.x")]
        assert parts[0][0] == 0
        assert parts[-1][1] == len(content)
        assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))
    check_inputs(context.root, config)
    for name, content in data.items():
        (new / f"{name}.x").write_bytes(content)
        os.utime(old / f"{name}.x")
    check_inputs(context.root, config)
    moved = config.model_copy(update={"path": (str(new / "*.x"),)})
    check_inputs(context.root, moved)
    for at in (10, len(data["a"]) // 2, len(data["a"]) - 3):
        spoiled = bytearray(data["a"])
        spoiled[at] ^= 1
        (new / "a.x").write_bytes(spoiled)
        with pytest.raises(DataError, match=r"source law: .*new/a\.x has changed since out was made from it") as caught:
            check_inputs(context.root, moved)
        assert caught.value.fix.startswith(f"delete {context.root} and re-run the same command")
    check_inputs(context.root, config, deep=True)
    (old / "a.x").write_bytes(spoiled)
    os.utime(old / "a.x", ns=(listed.st_atime_ns, listed.st_mtime_ns))
    check_inputs(context.root, config)  # a file whose modification time was reset passes the quick check ...
    with pytest.raises(DataError, match=r"source law: .*old/a\.x has changed since out was made from it"):
        check_inputs(context.root, config, deep=True)  # ... and not the deep one


@pytest.mark.parametrize("form", ["zip://a.jsonl::{}", "{}"])
def test_an_archive_that_was_copied_is_the_same_and_one_whose_text_changed_is_not(tmp_path: Path, form: str) -> None:
    archive = tmp_path / "a.zip"

    def pack(lines: bytes) -> None:
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(zipfile.ZipInfo("a.jsonl"), lines)

    pack(LINES)
    config = source(form.format(archive), "jsonl")
    tasks, context = unit(config, tmp_path / "out")
    for task in tasks:
        read_unit(task, context)
    os.utime(archive, (1, 1))
    check_inputs(context.root, config)
    check_inputs(context.root, config, deep=True)
    pack(LINES.replace(b"law", b"tax"))
    with pytest.raises(DataError, match=r"a\.zip has changed since out was made from it"):
        check_inputs(context.root, config)


def test_each_part_is_pinned_with_the_hash_of_its_own_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    config = source(path, "jsonl")
    rows = [row for task in plan_reads(config, 1000) for row in pin_inputs(task, config).to_pylist()]
    assert [(row["start"], row["end"]) for row in rows] == [
        (at, min(at + 1000, len(LINES))) for at in range(0, len(LINES), 1000)
    ]
    assert [row["sha256"] for row in rows] == [hashlib.sha256(LINES[row["start"] : row["end"]]).hexdigest() for row in rows]
    assert {row["size_bytes"] for row in rows} == {len(LINES)}


def test_a_limited_source_is_not_hashed_because_it_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    config = source(tmp_path / "a.jsonl", "jsonl", limit_documents=1)
    (task,) = plan_reads(config, 10**6)
    assert pin_inputs(task, config)["sha256"].to_pylist() == [None]


def test_a_file_that_was_written_to_since_it_was_listed_is_not_pinned(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    config = source(tmp_path / "a.jsonl", "jsonl")
    (task,) = plan_reads(config, 10**6)
    (tmp_path / "a.jsonl").write_bytes(LINES + b"{}")
    with pytest.raises(DataError, match=r"a\.jsonl"):
        pin_inputs(task, config)
