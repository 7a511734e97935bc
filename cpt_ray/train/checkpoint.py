"""Checkpoints: committed by a manifest written last, found by scanning storage, verified before they are read.

Layout under a run's folder: `checkpoints/step-00000012-a3/` with the engine's files and `manifest.json`. A folder without a
manifest does not exist. Resume trusts what lies in storage and nothing else: Ray forgets a checkpoint whose worker dies
before its controller's next poll.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from cpt_ray.edges.storage import file_entry, remove_tree, verify_files, write_atomic
from cpt_ray.errors import ArtifactError, TrainingError
from cpt_ray.records import CheckpointManifest, FileEntry

FOLDER = "checkpoints"
MANIFEST = "manifest.json"


def committed(run_folder: Path) -> list[tuple[Path, CheckpointManifest]]:
    """All committed checkpoints of a run, oldest first; of two at the same step the newer attempt comes last.

    Raises:
        ArtifactError: If a manifest cannot be read.
    """
    found = []
    for path in (run_folder / FOLDER).glob(f"step-*/{MANIFEST}"):
        try:
            found.append((path.parent, CheckpointManifest.load(path)))
        except ValueError as error:
            raise ArtifactError(
                f"{path}: not a checkpoint manifest: {error}", fix=f"delete {path.parent}; the one before it is used"
            ) from None
    return sorted(found, key=lambda item: (item[1].step, item[1].attempt))


def newest(run_folder: Path) -> tuple[Path, CheckpointManifest] | None:
    """The checkpoint to resume from, or None."""
    found = committed(run_folder)
    return found[-1] if found else None


def first_at_or_past(run_folder: Path, tokens: int) -> tuple[Path, CheckpointManifest]:
    """The branch point of a trunk: its first checkpoint with `tokens_seen >= tokens`.

    Raises:
        TrainingError: If there is none.
    """
    for folder, manifest in committed(run_folder):
        if manifest.tokens_seen >= tokens:
            return folder, manifest
    raise TrainingError(
        f"{run_folder}: no committed checkpoint at or past {tokens} tokens to branch from",
        fix="delete the folder and run the same command again; the trunk is trained anew",
    )


def verify(
    folder: Path, manifest: CheckpointManifest, *, rank: int, world_size: int, zero_stage: int, data_fingerprint: str
) -> None:
    """Check a checkpoint before it is loaded: who may read it, and every file by size and content hash.

    Collective: each rank hashes a share of the files, and all learn of a failure.

    Raises:
        TrainingError: If it was written by another number of workers, at another stage or on other data.
        ArtifactError: If a file contradicts the manifest.
    """
    if manifest.world_size != world_size:
        raise TrainingError(
            f"{folder}: written by {manifest.world_size} workers, but there are {world_size}",
            fix=f"set runtime.workers={manifest.world_size}, or delete the run's folder to train it anew",
        )
    if manifest.zero_stage != zero_stage:
        raise TrainingError(
            f"{folder}: written at ZeRO stage {manifest.zero_stage}, but train.deepspeed asks for {zero_stage}",
            fix=f"use a DeepSpeed JSON of stage {manifest.zero_stage}",
        )
    if manifest.data_fingerprint != data_fingerprint:
        raise TrainingError(f"{folder}: written on other data", fix="delete the run's folder to train it anew")
    problem: str | None = None
    try:
        verify_files(folder, manifest.files[rank::world_size], deep=True)
    except ArtifactError as error:
        problem = error.problem
    problems: list[str | None] = [None] * world_size
    dist.all_gather_object(problems, problem)
    for found in filter(None, problems):
        raise ArtifactError(found, fix=f"delete {folder} and run the same command again; the checkpoint before it is used")


def save(
    write_state: Callable[[Path], None],
    run_folder: Path,
    manifest: CheckpointManifest,
    *,
    rank: int,
    keep: int,
    keep_tokens: tuple[int, ...],
    may_commit: Callable[[], None],
) -> None:
    """Write and commit a checkpoint; collective.

    Args:
        write_state: Writes this rank's files under the folder it is given.
        run_folder: The run's folder.
        manifest: All but `files`.
        rank: This worker.
        keep: Newest checkpoints kept.
        keep_tokens: Branch points: the first checkpoint at or past each is kept too.
        may_commit: Raises if this driver has been superseded.
    """
    folder = run_folder / FOLDER / f"step-{manifest.step:08d}-a{manifest.attempt}"
    if rank == 0:
        remove_tree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    dist.barrier()
    write_state(folder)
    dist.barrier()
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    mine = [file_entry(folder, path) for path in paths[rank :: manifest.world_size]]
    gathered: list[list[FileEntry]] = [[] for _ in range(manifest.world_size)]
    dist.all_gather_object(gathered, mine)
    if rank == 0:
        may_commit()
        files = tuple(sorted((entry for part in gathered for entry in part), key=lambda entry: entry.path))
        write_atomic(folder / MANIFEST, manifest.model_copy(update={"files": files}).to_json())
        prune(run_folder, keep=keep, keep_tokens=keep_tokens)
    dist.barrier()


def prune(run_folder: Path, *, keep: int, keep_tokens: tuple[int, ...]) -> None:
    """Delete all but the newest `keep` checkpoints and the branch points; uncommitted folders of older attempts too."""
    found = committed(run_folder)
    kept = {folder for folder, _ in found[-keep:]}
    for tokens in keep_tokens:
        kept.update([folder for folder, manifest in found if manifest.tokens_seen >= tokens][:1])
    for folder in (run_folder / FOLDER).glob("step-*"):
        if folder not in kept:
            # The manifest goes first: a half-deleted checkpoint must not look committed.
            (folder / MANIFEST).unlink(missing_ok=True)
            remove_tree(folder)


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
