"""Checkpoints in storage: committed by a manifest written last, found by scanning, verified before they are read, pruned.

Layout under a run's folder:

    checkpoints/step-00000012-a0003/   the files of all ranks, part-0000.json (one per rank), manifest.json (last)
    checkpoints/step-*/universal/      the same state for another number of workers, with a separate manifest

A folder without a manifest is not a checkpoint. Resume trusts only what is in storage: Ray forgets a checkpoint whose worker
dies before its controller's next poll. `train/checkpoint/snapshot.py` writes them.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

from cpt_ray.edges import store
from cpt_ray.edges.storage import remove_tree, sync, write_atomic
from cpt_ray.errors import TrainingError
from cpt_ray.records import CheckpointManifest

FOLDER = "checkpoints"
MANIFEST = "manifest.json"


def scan(run_folder: Path) -> tuple[list[tuple[Path, CheckpointManifest]], tuple[str, ...]]:
    """All committed checkpoints of a run, oldest first, and the problems of manifests that cannot be read.

    Of two checkpoints at the same step, the newer attempt's comes last.
    """
    found, problems = [], []
    for path in _manifests(run_folder):
        try:
            found.append((path.parent, CheckpointManifest.load(path)))
        except FileNotFoundError:
            continue  # pruned since it was listed
        except ValueError as error:
            problems.append(f"{path}: not a checkpoint manifest: {str(error).splitlines()[0]}")
    return sorted(found, key=lambda item: (item[1].progress.step, item[1].attempt)), tuple(sorted(problems))


def _manifests(run_folder: Path) -> list[Path]:
    """The manifests of a run; those of a bucket are fetched, and what this node has of pruned checkpoints is none."""
    folder = run_folder / FOLDER
    if store.is_mirrored(run_folder):
        return [folder / name for name in store.fetched_names(folder, f"step-*/{MANIFEST}")]
    return list(folder.glob(f"step-*/{MANIFEST}"))


def forget_pruned(run_folder: Path) -> None:
    """Delete from this node's mirror the checkpoints that another node has pruned; between two saves only."""
    if store.is_mirrored(run_folder):
        kept = set(_manifests(run_folder))
        for manifest in (run_folder / FOLDER).glob(f"step-*/{MANIFEST}"):
            if manifest not in kept:
                shutil.rmtree(manifest.parent, ignore_errors=True)


def committed(run_folder: Path) -> list[tuple[Path, CheckpointManifest]]:
    """All committed checkpoints of a run that have a readable manifest, oldest first."""
    return scan(run_folder)[0]


def newest(run_folder: Path) -> tuple[Path, CheckpointManifest] | None:
    """The newest committed checkpoint, or None."""
    found = committed(run_folder)
    return found[-1] if found else None


def first_at_or_past(run_folder: Path, tokens: int) -> list[tuple[Path, CheckpointManifest]]:
    """The branch point of a trunk: its checkpoints at the first step with `tokens_spent >= tokens`, the newest attempt's first.

    There are several where an attempt found the one that was there damaged, and passed the step again.

    Raises:
        TrainingError: If there is none.
    """
    found = _branch_point(committed(run_folder), tokens)
    if not found:
        raise TrainingError(
            f"{run_folder}: no committed checkpoint at or past {tokens} tokens to branch from",
            fix="delete the folder and re-run the same command; the trunk will be trained from the start",
        )
    return found


def _branch_point(found: list[tuple[Path, CheckpointManifest]], tokens: int) -> list[tuple[Path, CheckpointManifest]]:
    past = [item for item in found if item[1].progress.tokens_spent >= tokens]
    return [item for item in reversed(past) if item[1].progress.step == past[0][1].progress.step]


def require_compatible(
    folder: Path, manifest: CheckpointManifest, *, zero_stage: int, precision: str, data_fingerprint: str, run_fingerprint: str
) -> None:
    """Refuse a checkpoint that this run may not resume from; the number of workers may differ.

    Raises:
        TrainingError: If its ZeRO stage or precision, its data, or the settings of its run are different.
    """
    if manifest.zero_stage != zero_stage:
        raise TrainingError(
            f"{folder}: written at ZeRO stage {manifest.zero_stage}, but train.deepspeed sets {zero_stage}; "
            "a different number of workers may resume from it, a different stage may not",
            fix=f"use a DeepSpeed JSON of stage {manifest.zero_stage}, e.g. ds_configs/zero{manifest.zero_stage}_bf16.json",
        )
    if manifest.precision != precision:
        raise TrainingError(
            f"{folder}: written with train.precision={manifest.precision}, but it is {precision} now",
            fix=f"set train.precision={manifest.precision}",
        )
    if manifest.data_fingerprint != data_fingerprint:
        raise TrainingError(f"{folder}: written with different data", fix="delete the run's folder to train it from the start")
    if manifest.run_fingerprint != run_fingerprint:
        raise TrainingError(
            f"{folder}: written by a run with different settings ({manifest.run_fingerprint[:12]}, now {run_fingerprint[:12]})",
            fix="restore the settings, or delete the run's folder to train it from the start",
        )


def commit(folder: Path, manifest: CheckpointManifest, *, may_commit: Callable[[], None]) -> None:
    """Commit a checkpoint: its files are on disk before its manifest is visible, and the manifest before this returns.

    Raises:
        LeaseError: If this driver has been superseded.
    """
    # The lease is asked as late as possible: a superseded driver can still be writing, but must not make anything exist.
    sync(folder)
    may_commit()
    write_atomic(folder / MANIFEST, manifest.to_json())
    sync(folder / MANIFEST)
    sync(folder)


def prune(run_folder: Path, *, keep: int, keep_tokens: tuple[int, ...]) -> None:
    """Delete all but the newest `keep` checkpoints and the branch points, and uncommitted folders of older attempts.

    Of two attempts at a branch point the newer one is kept: the older one was there and was found damaged.
    """
    found = committed(run_folder)
    kept = {folder for folder, _ in found[-keep:]}
    for tokens in keep_tokens:
        kept.update(folder for folder, _ in _branch_point(found, tokens)[:1])
    folders = set((run_folder / FOLDER).glob("step-*"))
    if store.is_mirrored(run_folder):  # of an earlier attempt, on another node
        folders |= {run_folder / FOLDER / name.split("/")[0] for name in store.listing(run_folder / FOLDER)}
    for folder in folders:
        if folder not in kept:
            # The manifest goes first: a half-deleted checkpoint must not look committed.
            store.remove(folder / MANIFEST)
            (folder / MANIFEST).unlink(missing_ok=True)
            remove_tree(folder)


def now() -> str:
    """The current time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
