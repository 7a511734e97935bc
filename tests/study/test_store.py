"""Artifacts: named by what went into them, whole once their record is there, refused where they contradict it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cpt_ray.errors import ArtifactError
from cpt_ray.study import store


def make(root: Path, settings: dict[str, object] | None = None, inputs: dict[str, str] | None = None) -> store.Place:
    return store.place(root, "shards", "tiny", inputs=inputs or {"model": "m1"}, settings=settings or {"length": 64})


def committed(root: Path) -> store.Place:
    spot = make(root)
    (spot.folder / "deep").mkdir(parents=True)
    (spot.folder / "a.txt").write_text("hello")
    (spot.folder / "deep" / "b.txt").write_text("world")
    (spot.folder / "scratch.tmp").write_text("not of the artifact")
    store.commit(spot, patterns=("**/*.txt", "a.*"), started=time.perf_counter())
    return spot


def test_a_fingerprint_is_the_hash_of_canonical_json():
    assert store.fingerprint({"b": (1, 2), "a": None}) == store.fingerprint({"a": None, "b": [1, 2]})
    # Written down: a change of this value orphans every artifact that anyone has.
    assert store.fingerprint({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_a_place_is_named_by_stage_name_and_fingerprint(tmp_path):
    spot = make(tmp_path)
    assert spot.folder == tmp_path / "shards" / f"tiny-{spot.fingerprint[:8]}"
    assert spot.label == f"shards/tiny-{spot.fingerprint[:8]}"
    assert make(tmp_path / "elsewhere").fingerprint == spot.fingerprint


def test_settings_and_inputs_change_the_fingerprint_and_their_order_does_not(tmp_path):
    plain = make(tmp_path, {"a": 1, "b": 2}, {"x": "1", "y": "2"}).fingerprint
    assert make(tmp_path, {"b": 2, "a": 1}, {"y": "2", "x": "1"}).fingerprint == plain
    assert make(tmp_path, {"a": 1, "b": 3}, {"x": "1", "y": "2"}).fingerprint != plain
    assert make(tmp_path, {"a": 1, "b": 2}, {"x": "1", "y": "3"}).fingerprint != plain


def test_what_was_committed_is_found_with_its_files_each_once(tmp_path):
    spot = committed(tmp_path)
    artifact = store.find(spot)
    assert [entry.path for entry in artifact.files] == ["a.txt", "deep/b.txt"]
    assert artifact.inputs == {"model": "m1"}
    assert artifact.settings == {"length": 64}
    assert artifact.versions["ray"].startswith("2.")


def test_a_folder_without_a_record_is_not_an_artifact(tmp_path):
    spot = committed(tmp_path)
    (spot.folder / store.FILE).unlink()
    assert (spot.folder / "a.txt").exists()
    assert store.find(spot) is None


def refused(spot: store.Place, match: str) -> str:
    with pytest.raises(ArtifactError, match=match) as error:
        store.find(spot)
    assert str(spot.folder) in error.value.fix
    return str(error.value)


def test_a_record_with_another_fingerprint_is_refused(tmp_path):
    spot = committed(tmp_path)
    path = spot.folder / store.FILE
    path.write_text(path.read_text().replace(spot.fingerprint, "f" * 64))
    message = refused(spot, "holds fingerprint ffffffffffff, its name and inputs say")
    assert spot.fingerprint[:12] in message


def test_a_missing_file_is_refused(tmp_path):
    spot = committed(tmp_path)
    (spot.folder / "deep" / "b.txt").unlink()
    refused(spot, r"deep/b\.txt: missing, but its manifest names it")


def test_a_file_of_another_size_is_refused(tmp_path):
    spot = committed(tmp_path)
    (spot.folder / "a.txt").write_text("hello!")
    refused(spot, r"a\.txt: 6 bytes, but its manifest says 5")


def test_a_record_that_is_cut_is_refused(tmp_path):
    spot = committed(tmp_path)
    path = spot.folder / store.FILE
    path.write_text(path.read_text()[:100])
    refused(spot, "not an artifact record")


def test_a_root_that_can_be_written_is_made_and_left_empty(tmp_path):
    store.require_writable(tmp_path / "new" / "root")
    assert list((tmp_path / "new" / "root").iterdir()) == []


def test_a_root_that_cannot_be_written_is_refused_with_the_systems_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="file/root: cannot be written: Not a directory") as error:
        store.require_writable(tmp_path / "file" / "root")
    assert "set study.root to a folder that this user may write" in error.value.fix
