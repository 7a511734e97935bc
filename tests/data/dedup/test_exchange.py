from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.data.dedup.exchange import read_partition, write_partitions
from cpt_ray.edges import store
from tests.object_store import node


def test_partitions_hold_every_row_once_in_the_order_of_files(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 1000, 60)
    paths = [tmp_path / "a.arrow", tmp_path / "b.arrow"]
    for path, part in zip(paths, (values[:40], values[40:]), strict=True):
        write_partitions(pa.table([part], names=["value"]), part % 30, path, 30)
    parts = [read_partition(paths, partition)["value"].to_pylist() for partition in range(30)]
    assert any(not part for part in parts)
    for partition, part in enumerate(parts):
        assert part == [value for value in values.tolist() if value % 30 == partition]
    assert sorted(read_partition(paths, None)["value"].to_pylist()) == sorted(values.tolist())


def test_a_table_without_rows_has_empty_partitions(tmp_path: Path) -> None:
    path = tmp_path / "empty.arrow"
    write_partitions(pa.table([pa.array([], type=pa.uint64())], names=["value"]), np.empty(0, dtype=np.int64), path, 3)
    assert read_partition([path], 2).num_rows == 0


def test_of_a_file_in_a_bucket_another_node_reads_the_partition_alone(bucket, tmp_path):
    values = np.arange(200_000)
    names = ["keys/a.arrow", "keys/b.arrow"]
    with node(tmp_path / "one"):
        root = store.mirror_of(f"s3://studies/{tmp_path.name}")
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_partitions(pa.table([values], names=["value"]), values % 40, root / name, 40)
            store.push(root / name)
        size = (root / names[0]).stat().st_size
        here = read_partition([root / name for name in names], 7)
    with node(tmp_path / "other"):
        root = store.mirror_of(f"s3://studies/{tmp_path.name}")
        before = bucket.read_bytes
        found = read_partition([root / name for name in names], 7)
        assert bucket.read_bytes - before < 2 * size / 10
        assert found == here
        assert found["value"].to_pylist() == [value for _ in names for value in range(7, 200_000, 40)]
        assert not list(root.rglob("*.arrow"))
        bucket.fail("503", times=2)
        assert read_partition([root / name for name in names], 7) == here
        assert bucket.failed == 2
        with pytest.raises(FileNotFoundError):
            read_partition([root / "keys/c.arrow"], 7)
