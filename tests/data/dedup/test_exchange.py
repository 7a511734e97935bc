from pathlib import Path

import numpy as np
import pyarrow as pa

from cpt_ray.data.dedup.exchange import read_partition, write_partitions


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
