"""Conversion for another number of workers: a real one, its refusals, and who waits for it; test_resume.py trains from one."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpt_ray.errors import ArtifactError, TrainingError
from cpt_ray.records import FileEntry
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.checkpoint import universal
from tests.train.checkpoint import resume_jobs
from tests.train.checkpoint.manifests import committed_at, manifest
from tests.train.tiny_run import make_model, make_shards


@pytest.fixture(scope="module")
def written(tmp_path_factory, zero_groups) -> Path:
    """A checkpoint of two workers."""
    root = tmp_path_factory.mktemp("universal")
    make_model(root)
    make_shards(root)
    settings = {"budgets": [900], "checkpoint_every": 400, "global_batch_size": 4, "stage": 2, "precision": "fp32"}
    assert zero_groups.of(2).run(resume_jobs.train_run, root, "run", settings) == [None, None]
    return checkpoint.newest(root / "run")[0]


@pytest.fixture
def folder(written, tmp_path) -> Path:
    return shutil.copytree(written, tmp_path / written.name)


def manifest_of(folder):
    return checkpoint.CheckpointManifest.load(folder / checkpoint.MANIFEST)


@pytest.mark.parametrize(
    ("stage", "workers", "needed"), [(0, 4, False), (1, 2, False), (1, 4, True), (2, 1, True), (3, 2, False), (3, 1, True)]
)
def test_another_number_of_workers_needs_it_where_each_holds_a_share(stage, workers, needed):
    assert universal.needs_conversion(manifest(1, zero_stage=stage, world_size=2), workers) is needed


def test_it_is_made_once_and_again_where_a_byte_of_it_changed(folder):
    made, seconds = universal.provide(folder, manifest_of(folder), rank=0, attempt="1")
    of = universal.UniversalManifest.load(made / checkpoint.MANIFEST)
    assert (of.source_step, of.source_world_size) == (manifest_of(folder).progress.step, 2)
    assert of.files
    assert {path.name for path in folder.glob("universal*")} == {
        "universal",
        "universal-ready-1.json",
    }  # nothing half-made is left
    again, reused = universal.provide(folder, manifest_of(folder), rank=0, attempt="2")
    assert again == made
    assert reused < seconds / 2
    victim = made / max(of.files, key=lambda entry: entry.size_bytes).path
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    universal.provide(folder, manifest_of(folder), rank=0, attempt="3")
    third = universal.UniversalManifest.load(made / checkpoint.MANIFEST)
    assert victim.read_bytes() != bytes(data)
    assert {entry.path for entry in third.files} == {entry.path for entry in of.files}


def test_the_others_wait_for_what_rank_0_verifies_and_not_for_what_was_there(folder):
    """A result that was there may be damaged; rank 0 then makes it again."""
    made, _ = universal.provide(folder, manifest_of(folder), rank=0, attempt="1")
    victim = max((path for path in made.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    whole = victim.read_bytes()
    victim.write_bytes(b"damaged")
    seen: list[bytes] = []

    def wait():
        universal.provide(folder, manifest_of(folder), rank=1, attempt="2")
        seen.append(victim.read_bytes())

    other = threading.Thread(target=wait, daemon=True)
    other.start()
    other.join(1.0)
    assert other.is_alive(), "it took the damaged result"
    universal.provide(folder, manifest_of(folder), rank=0, attempt="2")
    other.join(30.0)
    assert [len(found) for found in seen] == [len(whole)]


def test_what_killed_conversions_left_is_removed(folder):
    for leftover in ("universal", "universal.making-1", "universal.making-2"):
        (folder / leftover).mkdir()
        (folder / leftover / "half").touch()
    made, _ = universal.provide(folder, manifest_of(folder), rank=0, attempt="1")
    assert not (made / "half").exists()
    assert {path.name for path in folder.glob("universal*")} == {"universal", "universal-ready-1.json"}


def test_a_conversion_that_fails_is_a_clear_error_on_every_rank(folder):
    for path in folder.rglob("*optim_states.pt"):
        path.write_bytes(b"no checkpoint of torch")
    for rank in (0, 1):  # the others learn of it from rank 0's file
        with pytest.raises(TrainingError, match="universal conversion failed: ") as error:
            universal.provide(folder, manifest_of(folder), rank=rank, attempt="7")
        assert error.value.fix == "resume with runtime.workers=2, which needs no conversion"
    assert not (folder / "universal").exists()


def test_no_room_on_disk_or_in_memory_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    files = (FileEntry(path="a", size_bytes=3 * 10**9, sha256="0" * 64), FileEntry(path="b", size_bytes=10**9, sha256="0" * 64))
    folder = committed_at(tmp_path, 1, world_size=4, files=files)
    of = manifest_of(folder)
    monkeypatch.setattr(universal.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
    monkeypatch.setattr(universal.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**12))
    universal.preflight(folder, of)
    monkeypatch.setattr(universal.psutil, "virtual_memory", lambda: SimpleNamespace(available=5 * 10**9))
    with pytest.raises(ArtifactError, match=r"needs about 6\.00 GB of memory, .* but 5\.00 GB are available"):
        universal.preflight(folder, of)
    monkeypatch.setattr(universal.shutil, "disk_usage", lambda _: SimpleNamespace(free=7 * 10**9))
    with pytest.raises(ArtifactError, match=r"needs 8\.00 GB of disk, twice its size, but 7\.00 GB are free") as error:
        universal.provide(folder, of, rank=0, attempt="1")
    assert "runtime.workers=4" in error.value.fix
    assert not (folder / "universal").exists()
