"""Files between the mirror of a node and the bucket: what is sent when, what is fetched, and what a failing bucket costs."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cpt_ray.edges import storage, store
from cpt_ray.edges.store import opening, transfer
from cpt_ray.errors import ArtifactError
from tests.object_store import node


def key(path: Path) -> str:
    return store.address(path).removeprefix("s3://studies/")


def test_what_is_written_through_the_storage_door_is_in_the_bucket_and_on_no_other_node_until_it_is_read(
    root, bucket, tmp_path
):
    path = root / "train" / "run" / "run.json"
    storage.write_atomic(path, "whole")
    assert bucket.get(key(path)) == b"whole"
    with node(tmp_path / "other"):
        there = store.here(path)
        assert there != path
        assert not there.exists()
        assert store.exists(there)
        assert store.fetched(there).read_text() == "whole"
        storage.write_atomic(there, "changed there")
    assert store.fetched(path).read_text() == "whole"  # what is here is not asked for again
    assert store.fetched_folder(path.parent).joinpath("run.json").read_text() == "changed there"


def test_a_local_path_costs_no_request(tmp_path, bucket):
    storage.write_atomic(tmp_path / "x", "1")
    assert store.fetched(tmp_path / "x") == tmp_path / "x"
    assert store.sizes(tmp_path) is None
    store.push_folder(tmp_path)
    storage.remove_tree(tmp_path / "x")
    assert not (tmp_path / ".files.json").exists()
    assert bucket.seen == []


def test_large_files_travel_whole(root, tmp_path):
    data = bytes(range(256)) * (25 << 12)  # several parts of a multipart upload
    path = root / "shards" / "a.arrow"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    store.push(path)
    with node(tmp_path / "other"):
        assert store.fetched(store.here(path)).read_bytes() == data


@pytest.mark.parametrize("copied_bytes", [5 * 10**9, 1], ids=["within the store", "through the node"])
def test_an_object_is_copied_whatever_its_size(root, bucket, tmp_path, monkeypatch, copied_bytes):
    monkeypatch.setattr(transfer, "_COPIED_BYTES", copied_bytes)
    source, target = root / "train" / "small" / "weights", root / "train" / "large" / "weights"
    storage.write_atomic(source, "weights")
    with node(tmp_path / "other"):
        transfer.copy(store.here(source), store.here(target), len("weights"))
        transfer.copy(store.here(source), store.here(target), len("weights"))  # killed before it was recorded, done again
        assert store.here(target).exists() == (copied_bytes == 1)
    assert bucket.get(key(target)) == b"weights"
    assert store.fetched(target).read_text() == "weights"


def test_a_folder_is_sent_with_an_index_of_sizes_and_hashes(root):
    folder = root / "export"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.json").write_text("{}")
    (folder / "sub" / "b.bin").write_bytes(b"123")
    (folder / ".a.json.12ab34cd.tmp").write_text("half")
    store.push_folder(folder)
    assert sorted(store.sizes(folder)) == [".files.json", "a.json", "sub/b.bin"]
    entries = dict(transfer.known_entries(root, [f"export/{name}" for name in store.sizes(folder)]))
    assert entries["export/sub/b.bin"] == {"size_bytes": 3, "sha256": storage.hash_bytes(b"123")}


def test_globs_name_the_same_files_as_those_of_a_path(tmp_path):
    names = ["a.json", ".h.json", "x/a.json", "x/y/a.json", "x/y/b.jsonl", "export/w", "trajectory/5/export/w", "metrics/m"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in ("*", "*.json*", "**/*.json", "**/*", "metrics/*", "trajectory/**/*", "x/*/a.json", "trajectory/*/export/*"):
        found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern) if path.is_file()}
        assert {name for name in names if store.matches(name, pattern)} == found, pattern


def test_a_missing_object_leaves_the_file_missing_and_its_reader_says_so(root):
    assert not store.fetched(root / "nothing.json").exists()
    assert not store.exists(root / "nothing.json")
    with pytest.raises(ArtifactError, match=r"s3://studies/.*/nothing.json: missing, but its manifest names it") as error:
        entry = storage.FileEntry(path="nothing.json", size_bytes=3, sha256="x")
        storage.verify_files(root, [entry], deep=False)
    assert error.value.fix.startswith("delete s3://studies/")


def test_a_truncated_object_is_noticed_although_the_mirror_has_it_whole(root, bucket):
    storage.write_atomic(root / "a.json", "whole")
    entry = storage.file_entry(root, root / "a.json")
    storage.verify_files(root, [entry], deep=False)
    bucket.put(key(root / "a.json"), b"who")
    with pytest.raises(ArtifactError, match="3 bytes, but its manifest says 5"):
        storage.verify_files(root, [entry], deep=False)


def test_a_deleted_tree_is_deleted_in_the_bucket_too(root, bucket):
    for name in ("raw/a", "raw/b/c", "kept"):
        storage.write_atomic(root / name, name)
    storage.remove_tree(root / "raw")
    assert list(store.sizes(root)) == ["kept"]
    assert not (root / "raw").exists()
    storage.remove_tree(root / "raw")


def test_what_the_bucket_does_not_have_is_forgotten(root, bucket):
    storage.write_atomic(root / "a", "1")
    (root / "unsent").write_text("2")
    (root / "left").write_text("3")
    store.forget_unsent(root, store.listing(root), but=("left",))
    assert sorted(path.name for path in root.iterdir()) == ["a", "left"]


def test_an_object_that_is_written_again_while_it_is_fetched_is_fetched_as_it_is_now(root, bucket):
    storage.write_atomic(root / "beat.json", "12345")
    found = store.listing(root)
    bucket.put(key(root / "beat.json"), b"1234567")
    (root / "beat.json").unlink()
    store.refresh(root, found)
    assert (root / "beat.json").read_bytes() == b"1234567"


def test_a_full_disk_of_a_node_says_how_much_it_needs(root, bucket, monkeypatch):
    storage.write_atomic(root / "a.arrow", "x" * 1000)
    (root / "a.arrow").unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_copy", full)
    with pytest.raises(
        ArtifactError, match=r"this node's copy of s3://studies/.*/a.arrow takes 0.00 GB, but .* are free"
    ) as error:
        store.fetched(root / "a.arrow")
    assert error.value.fix == "free space there, or set runtime.scratch to a folder on a larger local disk"
    assert list(root.iterdir()) == []  # nothing half-written is left


def test_an_index_is_json_of_names(root):
    (root / "e").mkdir(parents=True)
    (root / "e" / "f").write_text("1")
    store.push_folder(root / "e")
    assert json.loads((root / "e" / ".files.json").read_text()).keys() == {"f"}


def test_what_changes_is_fetched_again_and_what_was_deleted_is_gone(root, tmp_path):
    storage.write_atomic(root / "report.html", "monday")
    with node(tmp_path / "laptop"):
        there = store.here(root / "report.html")
        assert store.fresh(there).read_text() == "monday"
        before = there.stat().st_mtime
    with node(tmp_path / "cluster"):
        storage.write_atomic(store.here(root / "report.html"), "tuesday")
    with node(tmp_path / "laptop"):
        assert store.fetched(there).read_text() == "monday"
        assert store.fresh(there).read_text() == "tuesday"
        assert there.stat().st_mtime >= before
        store.remove(there)
        assert not store.fresh(there).exists()


def test_a_file_that_cannot_be_read_to_its_end_makes_no_object(root, bucket):
    class Torn(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise OSError("bad sector")
            return super().read(1000)

    storage.write_atomic(root / "before", "1")
    filesystem, name = opening.opened(f"{store.address(root)}/torn")
    with pytest.raises(OSError, match="bad sector"):
        opening.put(filesystem, name, Torn(b"x" * 5000))
    assert not any(key.endswith("/torn") for key in bucket.keys("test_a_file"))


INTERRUPTED = """
import _thread, sys, threading, time
from pyarrow import fs
from cpt_ray.edges import store
from cpt_ray.edges.store import opening
write = opening.CHUNK
class Slow:
    left = 4
    def read(self, size):
        if self.left == 2:
            _thread.interrupt_main()
            time.sleep(0.5)
        self.left -= 1
        return b"x" * 6_000_000 if self.left >= 0 else b""
filesystem, name = opening.opened(sys.argv[1])
try:
    opening.put(filesystem, name, Slow())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_leaves_no_part_of_an_object(root):
    url = f"{store.address(root)}/whole"
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, url], capture_output=True, text=True, timeout=120)
    assert done.stdout == "interrupted\n", done.stderr
    filesystem, name = opening.opened(url)
    assert filesystem.get_file_info(name).size == 24_000_000


FETCHES = """
import os, sys, time
from pathlib import Path
from cpt_ray.edges import store
path, begun = Path(sys.argv[1]), Path(sys.argv[2])
(begun / str(os.getpid())).touch()
while not (begun / "go").exists():
    time.sleep(0.001)
if sys.argv[3:]:
    store.fetched_folder(path.parent)
print(store.fetched(path).stat().st_ino)
"""


@pytest.mark.parametrize("how", [(), ("folder",)], ids=["a file", "a folder"])
def test_processes_that_want_an_object_at_once_fetch_it_once_and_share_it(root, bucket, tmp_path, how):
    storage.write_atomic(root / "index" / "hashes.npy", "x" * 1000)
    (root / "index" / "hashes.npy").unlink()
    bucket.seen.clear()
    begun = tmp_path / "begun"
    begun.mkdir()
    command = [sys.executable, "-c", FETCHES, str(root / "index" / "hashes.npy"), str(begun), *how]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    while len(list(begun.iterdir())) < len(processes):
        assert all(one.poll() is None for one in processes)
    (begun / "go").touch()
    found = {one.communicate(timeout=120)[0] for one in processes}
    assert found == {f"{(root / 'index' / 'hashes.npy').stat().st_ino}\n"}
    assert [method for method, path in bucket.seen if path.endswith("/hashes.npy") and method == "GET"] == ["GET"]
    assert [path.name for path in (root / "index").iterdir()] == ["hashes.npy"]  # nor is a lock left


HOLDS = """
import sys, time
from pathlib import Path
from cpt_ray.edges import store
from cpt_ray.edges.store import transfer
def copy(*_):
    print("fetching", flush=True)
    time.sleep(600)
transfer._copy = copy
store.fetched(Path(sys.argv[1]))
"""


def test_a_process_that_is_killed_while_it_fetches_holds_nobody_up(root):
    storage.write_atomic(root / "a", "whole")
    (root / "a").unlink()
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(root / "a")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "fetching\n"
    waiting = threading.Thread(target=store.fetched, args=(root / "a",))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    holder.kill()
    waiting.join(60)
    assert (root / "a").read_text() == "whole"
    assert not (root / ".a.lock.tmp").exists()
