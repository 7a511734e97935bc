"""Storage: whole files or none, and a change is always found."""

import gzip
import os
import zipfile

import pytest

from cpt_ray.edges.storage import (
    atomic_path,
    file_entry,
    hash_bytes,
    hash_file,
    list_source_files,
    open_source,
    remove_tree,
    verify_files,
    write_atomic,
)
from cpt_ray.errors import ArtifactError, DataError


def test_a_file_and_its_bytes_have_the_same_hash(tmp_path):
    data = b"x" * 3_000_001
    (tmp_path / "a").write_bytes(data)
    assert hash_file(tmp_path / "a") == hash_bytes(data)
    # The published test vector of SHA-256 for "abc".
    assert hash_bytes(b"abc").startswith("ba7816bf8f01cfea")


def test_an_atomic_write_makes_folders_and_replaces(tmp_path):
    target = tmp_path / "new" / "deep" / "a.txt"
    write_atomic(target, "one")
    write_atomic(target, "zwei ü")
    assert target.read_text(encoding="utf-8") == "zwei ü"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_a_write_that_fails_leaves_the_old_content_and_no_rubbish(tmp_path):
    target = tmp_path / "a.txt"
    write_atomic(target, "old")
    with pytest.raises(RuntimeError, match="power cut"), atomic_path(target) as temporary:
        temporary.write_text("half")
        assert target.read_text() == "old"
        raise RuntimeError("power cut")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_place_that_cannot_be_written_is_named_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match=r"file.*: cannot be written: .*\n  fix: set study.root to a folder"):
        write_atomic(tmp_path / "file" / "a.txt", "x")


def test_a_disk_that_fills_is_named_with_the_reason(tmp_path):
    with (
        pytest.raises(ArtifactError, match="cannot be written: No space left on device"),
        atomic_path(tmp_path / "a") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def artifact(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(b"12345")
    return tmp_path, [file_entry(tmp_path, tmp_path / "sub" / "a.bin")]


def test_a_file_entry_is_relative_with_size_and_hash(artifact):
    _, (entry,) = artifact
    assert (entry.path, entry.size_bytes, entry.sha256) == ("sub/a.bin", 5, hash_bytes(b"12345"))


@pytest.mark.parametrize("deep", [True, False])
def test_what_is_whole_verifies(artifact, deep):
    verify_files(*artifact, deep=deep)


@pytest.mark.parametrize(
    ("spoil", "deep", "message"),
    [
        (lambda path: path.unlink(), False, "a.bin: missing, but its manifest names it"),
        (lambda path: path.write_bytes(b"1234"), False, "a.bin: 4 bytes, but its manifest says 5"),
        (lambda path: path.write_bytes(b"12346"), True, r"a.bin: sha256 [0-9a-f]{12}, but its manifest says [0-9a-f]{12}"),
    ],
)
def test_what_is_missing_cut_or_changed_is_found(artifact, spoil, deep, message):
    root, entries = artifact
    spoil(root / "sub" / "a.bin")
    with pytest.raises(ArtifactError, match=message) as caught:
        verify_files(root, entries, deep=deep)
    assert caught.value.fix == f"delete {root} and run the same command again; it is made anew"


def test_a_changed_byte_is_found_only_by_the_deep_look(artifact):
    root, entries = artifact
    (root / "sub" / "a.bin").write_bytes(b"12346")
    verify_files(root, entries, deep=False)


def test_removing_a_folder_twice_is_no_error(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_glob_lists_files_sorted_with_sizes_and_leaves_folders_out(tmp_path):
    for name, size in [("b.txt", 2), ("a.txt", 1), ("c.md", 3)]:
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "d.txt").mkdir()
    assert list_source_files(f"{tmp_path}/*.txt") == [(f"{tmp_path}/a.txt", 1), (f"{tmp_path}/b.txt", 2)]
    assert list_source_files(f"{tmp_path}/**/*.md") == [(f"{tmp_path}/c.md", 3)]


def test_relative_globs_start_at_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert list_source_files("*.txt") == [(f"{tmp_path}/a.txt", 1)]


@pytest.mark.parametrize("name", ["none.txt", "*.none"])
def test_a_source_without_files_is_named(tmp_path, name):
    with pytest.raises(DataError, match=r"no such file\n  fix: check the path or glob of this source"):
        list_source_files(f"{tmp_path}/{name}")


def test_listed_files_open_and_unpack(tmp_path):
    (tmp_path / "plain.txt").write_bytes(b"plain")
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"packed"))
    contents = []
    for path, _ in list_source_files(f"{tmp_path}/*.txt*"):
        with open_source(path) as stream:
            contents.append(stream.read())
    assert contents == [b"packed", b"plain"]


def test_members_of_an_archive_are_listed_and_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("in/b.txt", b"bb")
        archive.writestr("in/a.txt", b"a")
        archive.writestr("c.csv", b"ccc")
    listed = list_source_files(f"zip://in/*.txt::{tmp_path}/texts.zip")
    assert [size for _, size in listed] == [1, 2]
    with open_source(listed[1][0]) as stream:
        assert stream.read() == b"bb"
    (single,) = list_source_files(f"zip://c.csv::{tmp_path}/texts.zip")
    with open_source(single[0]) as stream:
        assert stream.read() == b"ccc"


def test_a_missing_member_of_an_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.txt", b"a")
    with pytest.raises(DataError, match="no such file"):
        list_source_files(f"zip://z.txt::{tmp_path}/texts.zip")


def test_another_filesystem_keeps_its_scheme():
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/x/a.txt", b"hello")
    ((path, size),) = list_source_files("memory://bucket/x/*.txt")
    assert size == 5
    with open_source(path) as stream:
        assert stream.read() == b"hello"
