"""The files of an artifact in a bucket: those that its stage names, with the hashes of who wrote them; none is read again."""

from __future__ import annotations

from cpt_ray.edges import storage, store
from cpt_ray.edges.store import lines, made
from cpt_ray.edges.store.made import made_files
from tests.object_store import node


def test_the_files_are_those_of_a_disk_wherever_they_were_written(root, tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(lines, "_sender", lambda: None)
    monkeypatch.setattr(lines, "_growing", {})
    patterns = ("*.json", "metrics/*", "export/*")
    folder = tmp_path / "disk"
    for place in (folder, root):
        storage.write_atomic(place / "run.json", "{}")
        storage.write_atomic(place / "export" / "weights", "w" * 100)
        storage.write_atomic(place / "checkpoints" / "x.json", "scratch")
        storage.write_atomic(place / "artifact.json", "of an earlier time")
        (place / "metrics").mkdir()
        lines.publish(place / "metrics" / "a.jsonl")
        (place / "metrics" / "a.jsonl").write_text("1\n2\n")
    lines.flush()
    store.push_folder(root / "export")
    with node(tmp_path / "driver"):
        there = store.here(root)
        bucket.seen.clear()
        assert made_files(there, patterns) == made_files(folder, patterns)
        read = [path for method, path in bucket.seen if method == "GET" and "weights" in path]
        assert read == []  # its hash is in the index
        assert [entry.path for entry in made_files(there, patterns)] == ["export/weights", "metrics/a.jsonl", "run.json"]
        assert store.exists(there / "metrics" / "a.jsonl")  # whole, beside its segments


def test_on_a_disk_nothing_is_read_again_that_its_writer_has_described(tmp_path, monkeypatch):
    storage.write_atomic(tmp_path / "run.json", "{}")
    storage.write_atomic(tmp_path / "export" / "weights", "w" * 100)
    storage.write_atomic(tmp_path / "export" / "config.json", "{}")
    plain, read = made_files(tmp_path, ("*.json", "export/*")), []
    store.write_index(tmp_path / "export")
    storage.write_atomic(tmp_path / "export" / "config.json", "{...}")  # after its index was written
    monkeypatch.setattr(made, "file_entry", lambda root, path: read.append(path.name) or storage.file_entry(root, path))
    described = made_files(tmp_path, ("*.json", "export/*"))
    assert sorted(read) == ["config.json", "run.json"]
    hashes = [{entry.path: entry.sha256 for entry in files} for files in (plain, described)]
    assert hashes[0].keys() == hashes[1].keys() == {"run.json", "export/weights", "export/config.json"}
    assert {name for name in hashes[0] if hashes[0][name] != hashes[1][name]} == {"export/config.json"}
