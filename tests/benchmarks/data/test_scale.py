"""The benchmark of sizes measures what it says: a committed artifact that is found again, an index that finds, every open."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.data.scale import held_out, metadata, steps
from benchmarks.data.scale.opens import Opens
from cpt_ray.data.split import ContainmentIndex
from cpt_ray.errors import ArtifactError
from cpt_ray.records import Artifact


def test_the_made_up_artifact_is_found_and_one_without_a_file_is_not(tmp_path):
    made = metadata.pack(tmp_path, 400)
    assert (made["units"], made["files"]) == (400, 1203)  # a shard, its index and a report each; manifest, columns, list
    folder = metadata.node_of(tmp_path).folder
    artifact = Artifact.of(folder)
    assert len(artifact.files) == 1203
    assert (folder / Artifact.FILE).stat().st_size < 4000  # more than a thousand files are columns
    assert metadata.noop(tmp_path, 400)["files"] == 1203
    (folder / next(entry.path for entry in artifact.files if entry.path.endswith(".index.parquet"))).unlink()
    with pytest.raises(ArtifactError, match="missing, but its manifest names it"):
        metadata.noop(tmp_path, 400)


def test_columns_of_another_record_are_refused(tmp_path):
    metadata.pack(tmp_path, 400)
    columns = metadata.node_of(tmp_path).folder / Artifact.COLUMNS
    columns.write_bytes(columns.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match=r"files\.arrow: sha256 \w+, but artifact\.json says"):
        metadata.noop(tmp_path, 400)


def test_the_made_up_index_is_one_that_finds_its_n_grams(tmp_path):
    size = held_out.write_index(tmp_path, 20_000)
    index = ContainmentIndex.load(tmp_path)
    assert size == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert np.all(index.hashes[:-1] <= index.hashes[1:])
    grams = np.unique(np.array(index.hashes[::7]))
    assert len(index._perhaps(grams)) == len(grams)
    assert len(index._owners(grams)) >= len(grams)


def test_every_open_of_a_watched_folder_is_counted_by_name(tmp_path):
    with Opens([tmp_path / "last", tmp_path / "clean", tmp_path / "keys"]) as opens:
        (tmp_path / "keys" / "a").write_text("x")
        for _ in range(2):
            (tmp_path / "keys" / "a").read_text()
        (tmp_path / "clean" / "b").write_text("x")
        (tmp_path / "clean" / "b").read_text()
        (tmp_path / "elsewhere").write_text("x")
    assert opens.by_folder == {"keys": 3, "clean": 2}


def test_following_a_run_of_ten_times_the_steps_takes_the_same_memory(tmp_path):
    memory, look = steps.measure(tmp_path, 2000)
    assert memory.raw["many"]["steps"] == 2000
    assert memory.value < 1.5
    assert look.value > 0
