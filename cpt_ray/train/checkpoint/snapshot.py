"""From the workers' memory to storage: a snapshot on each node's local disk, which training waits for, and an upload.

    save     all ranks: write this rank's files to the node's scratch folder                      <- the only stall
    upload   a thread per rank: move the files to the run's folder, hash them, then write part-RANK.json
    commit   rank 0's thread: wait for all parts, check the lease, write the manifest, prune

The threads use no collectives: they communicate through the run's folder. Only one upload runs at a time; the next save, the
run's end and a stop wait for it (`drain`). Guarantee: a kill at any moment leaves a whole checkpoint or none, and a failed
upload ends the run on every rank, after the next step (`train/shutdown.py`).
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from cpt_ray.edges import store
from cpt_ray.edges.storage import file_entry, hash_bytes, move_durably, remove_tree, unwritable, write_atomic
from cpt_ray.edges.store import lines
from cpt_ray.errors import ArtifactError, CptRayError, problem_of
from cpt_ray.records import CheckpointManifest, CheckpointTimes, FileEntry, Record
from cpt_ray.train.checkpoint import committed as checkpoint

logger = logging.getLogger(__name__)

_POLL_S = 0.05
_STORED_POLL_S = 0.5
_UPLOAD_LIMIT_S = 7200.0
"""How long another rank's part may take; after that, the rank or the storage is presumed dead."""


class Part(Record):
    """What one rank uploaded: its files, or why it could not. Written last by its thread."""

    files: tuple[FileEntry, ...]
    problem: str | None = None


class Snapshots:
    """The checkpoints of one start of a run. Its public calls are collective.

    Args:
        run_folder: Where checkpoints are committed.
        scratch: Node-local folder; None is the system's temporary folder.
        rank: This worker.
        world_size: All workers.
        attempt: Number of this start of the run.
        keep: Newest checkpoints kept.
        keep_tokens: Branch points: the first checkpoint at or past each is kept too.
        may_commit: Raises if this driver has been superseded; called by rank 0 right before each manifest.
    """

    def __init__(
        self,
        run_folder: Path,
        scratch: str | None,
        *,
        rank: int,
        world_size: int,
        attempt: int,
        keep: int,
        keep_tokens: tuple[int, ...],
        may_commit: Callable[[], None],
    ) -> None:
        self._run_folder, self._rank, self._world_size = run_folder, rank, world_size
        self._attempt, self._keep, self._keep_tokens, self._may_commit = attempt, keep, keep_tokens, may_commit
        self._scratch = _scratch_of_run(run_folder, scratch)
        self._thread: threading.Thread | None = None
        self._error: CptRayError | None = None
        self._given_up = threading.Event()
        self.upload_s = 0.0
        """Seconds from snapshot to commit, for the last committed checkpoint."""
        # Writers under other attempt numbers are dead, or zombies that must not continue.
        for leftover in self._scratch.iterdir():
            if leftover.name != self._name:
                remove_tree(leftover)

    @property
    def failed(self) -> bool:
        """Whether this rank's upload has failed; every rank must then `drain`, which raises on all of them."""
        return self._error is not None

    def save(
        self,
        write_state: Callable[[Path], None],
        manifest: CheckpointManifest,
        *,
        expected_bytes: int,
        reason: str,
        started: float,
    ) -> None:
        """Write a snapshot and start its upload.

        Args:
            write_state: Writes this rank's files under the folder it is given; collective.
            manifest: The manifest without its `files`.
            expected_bytes: Approximate bytes that this rank will write.
            reason: Why now, for the record.
            started: `perf_counter` when training began to wait.

        Raises:
            ArtifactError: If a scratch folder has no room or cannot be written, or the previous upload failed.
            LeaseError: If the lease refused the previous upload.
        """
        # One upload at a time: two would need the scratch space of two snapshots, and could commit in the wrong order.
        self.drain()
        local = self._scratch / self._name / f"step-{manifest.progress.step:08d}" / f"rank-{self._rank:04d}"
        # Refused before anything is written, by all ranks: a rank that wrote alone would wait in a collective for the others.
        self._agree(_no_room(self._scratch, expected_bytes, ranks=_ranks_of_node(self._world_size)))
        problem: CptRayError | None = None
        try:
            # Of a study that was killed, and whose root was deleted and made anew.
            shutil.rmtree(local, ignore_errors=True)
            local.mkdir(parents=True)
            write_state(local)
        except OSError as error:
            problem = _scratch_problem(local, error)
        self._agree(problem)
        stall_s = time.perf_counter() - started
        target = self._run_folder / checkpoint.FOLDER / f"step-{manifest.progress.step:08d}-a{manifest.attempt:04d}"
        self._thread = threading.Thread(target=self._upload, args=(local, target, manifest, stall_s, reason), daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Wait until the checkpoint in progress is committed.

        Raises:
            ArtifactError: On every rank, if a rank could not upload its files.
            LeaseError: On every rank, if this driver has been superseded.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._agree(self._error)

    def give_up(self) -> None:
        """Stop waiting for other ranks' parts; for a rank that knows that one of them failed."""
        self._given_up.set()

    @property
    def _name(self) -> str:
        return f"attempt-{self._attempt:04d}"

    def _agree(self, problem: CptRayError | None) -> None:
        problems: list[CptRayError | None] = [None] * self._world_size
        dist.all_gather_object(problems, problem)
        for found in filter(None, problems):
            raise found

    def _upload(self, local: Path, target: Path, manifest: CheckpointManifest, stall_s: float, reason: str) -> None:
        started = time.perf_counter()
        try:
            try:
                self._bring(local, target)
                if self._rank == 0:
                    parts = self._wait_for_parts(target)
                    files = tuple(sorted((entry for part in parts for entry in part.files), key=lambda entry: entry.path))
                    checkpoint.commit(target, manifest.model_copy(update={"files": files}), may_commit=self._may_commit)
                    self.upload_s = time.perf_counter() - started
                    self._record(manifest, files, stall_s, reason)
                    checkpoint.prune(self._run_folder, keep=self._keep, keep_tokens=self._keep_tokens)
                else:
                    self._wait_for(target / checkpoint.MANIFEST, target)
                    checkpoint.forget_pruned(self._run_folder)
                    self.upload_s = time.perf_counter() - started
            except OSError as error:
                raise unwritable(target, error) from error
        except Exception as error:  # raised on every rank by `drain`: an exception in a thread is only printed
            known = error if isinstance(error, CptRayError) else _bug(target, error)
            self._error = known
            self._tell_others(target, known)

    def _bring(self, local: Path, target: Path) -> None:
        entries = []
        for path in sorted(path for path in local.rglob("*") if path.is_file()):
            final = target / path.relative_to(local)
            final.parent.mkdir(parents=True, exist_ok=True)
            move_durably(path, final)
            entries.append(file_entry(target, final))
            store.push(final)
        lines.flush()  # with a root in a bucket, the lines that led here are there before the checkpoint is
        remove_tree(local)
        # Last, and even for a rank without files: its part tells rank 0 that nothing more will come.
        target.mkdir(parents=True, exist_ok=True)
        write_atomic(_part(target, self._rank), Part(files=tuple(entries)).to_json())

    def _wait_for_parts(self, target: Path) -> list[Part]:
        parts = []
        for rank in range(self._world_size):
            self._wait_for(_part(target, rank), target)
            store.fetched(_part(target, rank))
            part = Part.load(_part(target, rank))
            if part.problem is not None:
                raise ArtifactError(part.problem, fix="fix the reported problem, then re-run the same command to resume")
            parts.append(part)
        return parts

    def _wait_for(self, path: Path, target: Path) -> None:
        end = time.monotonic() + _UPLOAD_LIMIT_S
        while not store.exists(path):
            refusal = _refusal(target)
            if self._rank != 0 and store.exists(refusal):
                raise ArtifactError(Part.load(store.fetched(refusal)).problem or "", fix="see the error of rank 0")
            if self._given_up.is_set() or time.monotonic() > end:
                raise ArtifactError(
                    f"{path}: never appeared",
                    fix="check the other workers' errors, then re-run the same command to resume",
                )
            time.sleep(_STORED_POLL_S if store.is_mirrored(path) else _POLL_S)

    def _tell_others(self, target: Path, error: CptRayError) -> None:
        path = _refusal(target) if self._rank == 0 else _part(target, self._rank)
        try:
            write_atomic(path, Part(files=(), problem=error.problem).to_json())
        except CptRayError:
            # The storage itself has failed. The others learn of it from the flag of the next step, or at the next save.
            return

    def _record(self, manifest: CheckpointManifest, files: tuple[FileEntry, ...], stall_s: float, reason: str) -> None:
        times = CheckpointTimes(
            attempt=manifest.attempt,
            step=manifest.progress.step,
            tokens_seen=manifest.progress.tokens_seen,
            world_size=manifest.world_size,
            size_bytes=sum(entry.size_bytes for entry in files),
            checkpoint_stall_s=stall_s,
            upload_s=self.upload_s,
            reason=reason,
        )
        path = self._run_folder / "metrics" / f"checkpoints-{manifest.attempt:04d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines.publish(path)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(times.model_dump_json() + "\n")


def read_times(run_folder: Path) -> tuple[CheckpointTimes, ...]:
    """The times and sizes of a run's committed checkpoints, in the order of their commits."""
    lines = [
        line
        for path in sorted((run_folder / "metrics").glob("checkpoints-*.jsonl"))
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]
    ]
    return tuple(CheckpointTimes.from_json(line) for line in lines)


def _bug(target: Path, error: Exception) -> ArtifactError:
    """What ended an upload and is nobody's setting; the ranks that wait for it must be told all the same."""
    logger.error("the upload of %s failed", target, exc_info=error)
    return ArtifactError(
        f"{target}: the upload failed: {problem_of(error)}",
        fix="re-run the same command to resume; if it happens again, report the traceback in the run's logs",
    )


def _part(target: Path, rank: int) -> Path:
    return target / f"part-{rank:04d}.json"


def _refusal(target: Path) -> Path:
    return target / "refused.json"


def _scratch_of_run(run_folder: Path, scratch: str | None) -> Path:
    """A folder for this run and user; others may not write there, because its files will be unpickled."""
    root = Path(scratch or tempfile.gettempdir()) / f"cpt-ray-{os.getuid()}"
    folder = root / f"{run_folder.name}-{hash_bytes(str(run_folder.resolve()).encode())[:12]}"
    try:
        root.mkdir(parents=True, mode=0o700, exist_ok=True)
        if root.is_symlink() or root.stat().st_uid != os.getuid():
            raise ArtifactError(f"{root}: belongs to another user", fix="set runtime.scratch to a folder that you own")
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _scratch_problem(folder, error) from error
    return folder


def _scratch_problem(folder: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"{folder}: cannot hold a snapshot: {error.strerror or error}",
        fix="set runtime.scratch to a folder on a local disk of every node, with room for a checkpoint",
    )


def _no_room(scratch: Path, expected_bytes: int, *, ranks: int) -> ArtifactError | None:
    free, needed = shutil.disk_usage(scratch).free, expected_bytes * ranks
    if free >= needed:
        return None
    return ArtifactError(
        f"{scratch}: {free / 1e9:.1f} GB free, but a snapshot of this node's {ranks} workers takes about {needed / 1e9:.1f} GB",
        fix="free space there, or set runtime.scratch to a local folder with more",
    )


def _ranks_of_node(world_size: int) -> int:
    """Workers that share this node's disk."""
    return min(world_size, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
