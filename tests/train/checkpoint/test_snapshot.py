"""Snapshot, upload, commit: what exists after each of them fails, and that nothing is left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist

from cpt_ray.errors import ArtifactError, LeaseError
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.checkpoint import resume
from cpt_ray.train.checkpoint.snapshot import Part, Snapshots, read_times
from tests.train.checkpoint.manifests import manifest

pytestmark = pytest.mark.usefixtures("one_worker")


def allowed() -> None:
    """A lease that is held."""


def state(folder: Path) -> None:
    (folder / "state.pt").write_bytes(b"weights")
    (folder / "deep").mkdir()
    (folder / "deep" / "moments.pt").write_bytes(b"moments")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "trunk"


def make(run: Path, *, attempt: int = 1, keep: int = 2, may_commit: Callable[[], None] = allowed) -> Snapshots:
    scratch = str(run.parent.parent / "scratch")
    return Snapshots(run, scratch, rank=0, world_size=1, attempt=attempt, keep=keep, keep_tokens=(), may_commit=may_commit)


def save(snapshots: Snapshots, step: int, write: Callable[[Path], None] = state, *, expected_bytes: int = 100) -> None:
    snapshots.save(write, manifest(step), expected_bytes=expected_bytes, reason="interval", started=time.perf_counter())


def scratch_files(run: Path) -> list[Path]:
    return [path for path in (run.parent.parent / "scratch").rglob("*") if path.is_file()]


def test_a_checkpoint_is_committed_with_hashes_and_leaves_nothing_on_the_node(run):
    snapshots = make(run)
    for step in (1, 2, 3):
        save(snapshots, step)
    snapshots.drain()
    found = checkpoint.committed(run)
    assert [one.progress.step for _, one in found] == [2, 3]
    folder, newest = found[-1]
    assert [entry.path for entry in newest.files] == ["deep/moments.pt", "state.pt"]
    assert resume.verify(folder, newest.files, rank=0, world_size=1) is None
    (folder / "state.pt").write_bytes(b"weighty")
    assert "state.pt" in (resume.verify(folder, newest.files, rank=0, world_size=1) or "")
    assert scratch_files(run) == []
    assert [(one.step, one.reason) for one in read_times(run)] == [(1, "interval"), (2, "interval"), (3, "interval")]


def test_everything_is_on_the_disk_before_the_manifest_is_seen(run, monkeypatch):
    order: list[str] = []
    fsync, write = os.fsync, checkpoint.write_atomic

    def noted_fsync(descriptor: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_write(path: Path, text: str) -> None:
        order.append("MANIFEST APPEARS")
        write(path, text)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(checkpoint, "write_atomic", noted_write)
    snapshots = make(run)
    save(snapshots, 1)
    snapshots.drain()
    appears = order.index("MANIFEST APPEARS")
    assert {"state.pt", "moments.pt", "step-00000001-a0001"} <= set(order[:appears])
    assert "manifest.json" in order[appears:]


@pytest.mark.accept(cluster=5)
def test_no_room_is_refused_before_anything_is_written(run):
    snapshots = make(run)
    with pytest.raises(ArtifactError, match=r"GB free, but a snapshot of this node.s 1 workers takes about 1000000000\.0 GB"):
        save(snapshots, 1, expected_bytes=10**18)
    assert scratch_files(run) == []
    assert not run.exists()


@pytest.mark.accept(cluster=5)
def test_a_disk_that_fills_up_during_the_snapshot_names_the_folder_and_the_key(run):
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    snapshots = make(run)
    with pytest.raises(ArtifactError, match=r"rank-0000: cannot hold a snapshot: No space left on device") as raised:
        save(snapshots, 1, full)
    assert "runtime.scratch" in raised.value.fix
    assert checkpoint.newest(run) is None


def test_an_upload_that_fails_is_known_at_once_and_ends_the_run_with_its_reason(run):
    run.mkdir(parents=True)
    (run / "checkpoints").write_text("a file where a folder must be")
    snapshots = make(run)
    save(snapshots, 1)  # training goes on meanwhile
    end = time.monotonic() + 30
    while not snapshots.failed:
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(ArtifactError, match="checkpoints"):
        snapshots.drain()
    assert checkpoint.newest(run) is None


def test_a_bug_in_an_upload_is_raised_with_its_text_and_told_to_the_other_ranks(run, caplog):
    def broken():
        raise KeyError("no such lease")

    snapshots = make(run, may_commit=broken)
    save(snapshots, 1)
    with pytest.raises(ArtifactError, match="the upload failed: KeyError: 'no such lease'"):
        snapshots.drain()
    assert checkpoint.newest(run) is None
    (refused,) = run.rglob("refused.json")
    assert "KeyError" in str(Part.load(refused).problem)
    assert "Traceback" in caplog.text


def test_a_late_commit_of_a_superseded_driver_is_refused_in_the_background(run):
    held = threading.Event()
    held.set()

    def lease() -> None:
        if not held.is_set():
            raise LeaseError("attempt 1 may no longer write", fix="nothing to do")

    snapshots = make(run, may_commit=lease)
    save(snapshots, 1)
    snapshots.drain()
    held.clear()  # between the snapshot and its commit another driver took the study
    save(snapshots, 2)
    with pytest.raises(LeaseError, match="attempt 1 may no longer write"):
        snapshots.drain()
    assert [one.progress.step for _, one in checkpoint.committed(run)] == [1]


def test_waiting_for_a_part_that_never_comes_ends_when_the_others_give_up(run, monkeypatch):
    monkeypatch.setattr(dist, "all_gather_object", lambda problems, problem: problems.__setitem__(0, problem))
    scratch = str(run.parent.parent / "scratch")
    snapshots = Snapshots(run, scratch, rank=0, world_size=2, attempt=1, keep=2, keep_tokens=(), may_commit=allowed)
    save(snapshots, 1)
    time.sleep(0.2)
    assert not snapshots.failed
    snapshots.give_up()
    with pytest.raises(ArtifactError, match=r"part-0001.json: never appeared"):
        snapshots.drain()
    assert checkpoint.newest(run) is None


def test_another_ranks_problem_is_named_and_nothing_is_committed(run, monkeypatch):
    monkeypatch.setattr(dist, "all_gather_object", lambda problems, problem: problems.__setitem__(0, problem))
    target = run / checkpoint.FOLDER / "step-00000001-a0001"
    target.mkdir(parents=True)
    (target / "part-0001.json").write_text(Part(files=(), problem="/scratch: No space left").to_json())
    scratch = str(run.parent.parent / "scratch")
    snapshots = Snapshots(run, scratch, rank=0, world_size=2, attempt=1, keep=2, keep_tokens=(), may_commit=allowed)
    save(snapshots, 1)
    with pytest.raises(ArtifactError, match="/scratch: No space left"):
        snapshots.drain()
    assert checkpoint.newest(run) is None


def test_what_a_dead_attempt_left_on_the_node_is_removed(run):
    def dies(folder: Path) -> None:
        state(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(make(run), 1, dies)
    assert scratch_files(run)
    make(run, attempt=2)
    assert scratch_files(run) == []


def test_a_scratch_folder_of_another_user_is_refused(run, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (scratch / f"cpt-ray-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="belongs to another user"):
        make(run)
