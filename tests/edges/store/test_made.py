"""The files of an artifact in a bucket: those that its stage names, with the hashes of who wrote them; none is read again."""

from __future__ import annotations

from cpt_ray.edges import storage, store
from cpt_ray.edges.store import lines
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
