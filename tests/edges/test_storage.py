"""Storage: complete files or none, and changes are always found."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cpt_ray.edges.storage import (
    atomic_path,
    file_entry,
    hash_bytes,
    hash_file,
    move_durably,
    remove_tree,
    verify_files,
    write_atomic,
)
from cpt_ray.errors import ArtifactError


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


def test_a_path_that_cannot_be_written_is_named_with_the_reason(tmp_path):
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
    assert caught.value.fix == f"delete {root} and re-run the same command; it will be rebuilt"


def test_a_changed_byte_is_found_only_by_the_deep_look(artifact):
    root, entries = artifact
    (root / "sub" / "a.bin").write_bytes(b"12346")
    verify_files(root, entries, deep=False)


def test_removing_a_folder_twice_is_no_error(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_file_moves_within_a_mount_and_across_two(tmp_path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not a mount of its own here")
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        for number, source in enumerate((tmp_path / "a", Path(scratch) / "a")):
            source.write_bytes(b"weights")
            target = tmp_path / f"moved-{number}"
            move_durably(source, target)
            assert target.read_bytes() == b"weights"
            assert not source.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved-0", "moved-1"]


_MOVE = """
import sys
from pathlib import Path
from cpt_ray.edges.storage import move_durably
source, target = map(Path, sys.argv[1:])
assert source.stat().st_dev == target.parent.stat().st_dev
move_durably(source, target)
print("done")
"""


def test_a_file_moves_across_two_mounts_of_one_disk(tmp_path):
    mounted, other = tmp_path / "mounted", tmp_path / "other"
    mounted.mkdir()
    other.mkdir()
    (other / "a").write_bytes(b"weights")
    script = f"mount --bind {other} {mounted} && exec {sys.executable} - {mounted / 'a'} {tmp_path / 'moved'}"
    command = ["unshare", "--mount", "bash", "-c", script]
    done = subprocess.run(command, input=_MOVE, capture_output=True, text=True, check=False)
    if done.returncode and ("unshare:" in done.stderr or "mount:" in done.stderr):
        pytest.skip("this user may not mount")
    assert done.stdout == "done\n", done.stderr
    assert (tmp_path / "moved").read_bytes() == b"weights"
    assert not (other / "a").exists()
