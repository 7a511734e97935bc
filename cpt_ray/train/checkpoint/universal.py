"""A checkpoint for another number of workers: DeepSpeed's universal format, made by a separate process, before the engine.

In: a committed checkpoint written by N workers at ZeRO 1, 2 or 3. Out: `universal/` in its folder, with a separate manifest
written last; any number of workers can load it at the same stage, and later resizes reuse it. Stage 0 needs no conversion: each
worker holds and reads the whole state.

Held at once: one worker's shard, then one parameter. Disk: temporarily twice the checkpoint, which is checked first. The
process is a child of rank 0, not a Ray task: an elastic group holds all CPUs of its cluster, and a task waiting for one would
never run; the child's memory is freed when it ends. Other ranks poll the folder: no collective waits.

Run as `python -m cpt_ray.train.checkpoint.universal CHECKPOINT`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from cpt_ray.edges import store
from cpt_ray.edges.storage import file_entry, remove_tree, sync, verify_files, write_atomic
from cpt_ray.edges.store import opening
from cpt_ray.errors import ArtifactError, CptRayError, TrainingError
from cpt_ray.records import CheckpointManifest, FileEntry, Record
from cpt_ray.train.checkpoint.committed import MANIFEST

FOLDER = "universal"
_FAILED = "universal-failed-{attempt}.json"
_READY = "universal-ready-{attempt}.json"
_POLL_S = 0.1


class UniversalManifest(Record):
    """Written last into `universal/`."""

    source_step: int
    source_world_size: int
    wall_s: float
    files: tuple[FileEntry, ...]


class _Failure(Record):
    problem: str
    fix: str


class _Ready(Record):
    """Rank 0 has verified what is there, or has made it."""

    wall_s: float


def needs_conversion(manifest: CheckpointManifest, world_size: int) -> bool:
    """Whether these workers must read the universal form."""
    return manifest.zero_stage > 0 and manifest.world_size != world_size


def provide(folder: Path, manifest: CheckpointManifest, *, rank: int, attempt: str) -> tuple[Path, float]:
    """Return the universal form of a verified checkpoint and the seconds it took, making it if needed.

    Called by all ranks; uses no collective. Rank 0 makes it or verifies the one that is there; the others wait until it
    says so, or why not.

    Args:
        folder: The checkpoint's folder.
        manifest: Its manifest.
        rank: This worker.
        attempt: Names this start of the workers, so that an earlier start's word is not mistaken for this one's.

    Raises:
        ArtifactError: If there is no room for it.
        TrainingError: If the conversion failed.
    """
    started = time.perf_counter()
    result = folder / FOLDER
    ready, failed = (folder / name.format(attempt=attempt) for name in (_READY, _FAILED))
    if rank == 0:
        try:
            _make(folder, manifest)
        except CptRayError as error:
            write_atomic(failed, _Failure(problem=error.problem, fix=error.fix).to_json())
            raise
        write_atomic(ready, _Ready(wall_s=time.perf_counter() - started).to_json())
    # Not its manifest: one that was there before may be of a result that rank 0 finds damaged and makes again.
    while not store.exists(ready):
        if store.exists(failed):
            failure = _Failure.load(store.fetched(failed))
            raise TrainingError(failure.problem, fix=failure.fix)
        time.sleep(_POLL_S)
    store.fetched_folder(result)
    return result, time.perf_counter() - started


def preflight(folder: Path, manifest: CheckpointManifest) -> None:
    """Refuse a conversion without enough room.

    Raises:
        ArtifactError: With the free and the needed bytes, of disk or of memory.
    """
    size = sum(entry.size_bytes for entry in manifest.files)
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise ArtifactError(
            f"{folder}: written by {manifest.world_size} workers; converting it needs {2 * size / 1e9:.2f} GB of disk, "
            f"twice its size, but {free / 1e9:.2f} GB are free",
            fix=f"free disk space, or resume with runtime.workers={manifest.world_size}, which needs no conversion",
        )
    largest = max(entry.size_bytes for entry in manifest.files)
    available = psutil.virtual_memory().available
    if available < 2 * largest:
        raise ArtifactError(
            f"{folder}: converting it needs about {2 * largest / 1e9:.2f} GB of memory, twice its largest file, "
            f"but {available / 1e9:.2f} GB are available on rank 0's node",
            fix=f"use nodes with more memory, or resume with runtime.workers={manifest.world_size}, which needs no conversion",
        )


def _make(folder: Path, manifest: CheckpointManifest) -> None:
    result = folder / FOLDER
    if store.exists(result / MANIFEST):
        store.fetched_folder(result)
        try:
            verify_files(result, UniversalManifest.load(result / MANIFEST).files, deep=True)
            return
        except (ArtifactError, ValueError):
            # It can be recreated from the checkpoint, which is verified.
            store.remove(result / MANIFEST)
            (result / MANIFEST).unlink()
    if not (result / MANIFEST).exists():
        remove_tree(result)
    preflight(folder, manifest)
    command = [sys.executable, "-m", "cpt_ray.train.checkpoint.universal", str(folder)]
    environment = {**os.environ, **opening.environment()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    made = (result / MANIFEST).exists()  # by this group, or by another that branches from the same checkpoint
    if made:
        for leftover in folder.glob(f"{FOLDER}.making-*"):  # of a killed one, or of one that now finds this result
            remove_tree(leftover)
    if done.returncode != 0 and not made:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise TrainingError(
            f"{folder}: DeepSpeed's universal conversion failed: {lines[-1] if lines else f'exit code {done.returncode}'}",
            fix=f"resume with runtime.workers={manifest.world_size}, which needs no conversion",
        )


def convert(folder: Path) -> None:
    """Convert the checkpoint in `folder` and commit the result; in a separate process, because it forks and holds a shard."""
    from deepspeed.checkpoint import ds_to_universal

    started = time.perf_counter()
    manifest = CheckpointManifest.load(folder / MANIFEST)
    tag = next(Path(entry.path).parent for entry in manifest.files if entry.path.endswith("optim_states.pt"))
    working = folder / f"{FOLDER}.making-{os.getpid()}"
    (working / tag).mkdir(parents=True)
    ds_to_universal.main(
        argparse.Namespace(
            input_folder=str(folder / tag),
            output_folder=str(working / tag),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=False,
        )
    )
    files = tuple(file_entry(working, path) for path in sorted(working.rglob("*")) if path.is_file())
    for entry in files:
        sync(working / entry.path)
    made = UniversalManifest(
        source_step=manifest.progress.step,
        source_world_size=manifest.world_size,
        wall_s=time.perf_counter() - started,
        files=files,
    )
    (working / MANIFEST).write_text(made.to_json(), encoding="utf-8")
    sync(working / MANIFEST)
    working.rename(folder / FOLDER)  # fails if another group was faster, whose result is as good
    store.push_folder(folder / FOLDER, last=MANIFEST)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
