"""Records round-trip through JSON and are immutable."""

import json

import pytest
from pydantic import ValidationError

from cpt_ray.records import Amount, Artifact, FileEntry


def artifact() -> Artifact:
    file = FileEntry(path="a/b.arrow", size_bytes=3, sha256="0" * 64)
    return Artifact(
        stage="shards", name="tiny", fingerprint="f" * 8, inputs={"models": "1"}, settings={"pack": None, "list": [1]},
        files=(file,), wall_s=1.5, created="2026-01-01", versions={"cpt_ray": "1"},
    )  # fmt: skip


def test_a_record_reads_back_as_it_was_written(tmp_path):
    written = artifact()
    assert Artifact.from_json(written.to_json()) == written
    (tmp_path / "artifact.json").write_text(written.to_json())
    assert Artifact.load(tmp_path / "artifact.json") == written
    assert Artifact.of(tmp_path) == written  # under the kind's file name


def test_a_folder_without_the_record_says_which_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"artifact\.json"):
        Artifact.of(tmp_path)


def test_half_a_record_is_refused():
    with pytest.raises(ValidationError, match="size_bytes"):
        FileEntry.from_json('{"path": "a", "sha256": "x"}')
    with pytest.raises(ValidationError, match="Invalid JSON"):
        FileEntry.from_json('{"path": "a"')


def test_keys_are_written_in_the_order_of_the_kind():
    entry = FileEntry(sha256="x", size_bytes=1, path="a")
    assert list(json.loads(entry.to_json())) == ["path", "size_bytes", "sha256"]


def test_a_record_refuses_a_key_that_it_does_not_know():
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        FileEntry.from_json(json.dumps({"path": "a", "size_bytes": 1, "sha256": "x", "owner": "me"}))


def test_a_record_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Amount().documents = 4
