"""Which checkpoint a run resumes from, and in which form: decided by all ranks together, before the engine is built.

It is the newest committed checkpoint of the run that is intact; a newer one that contradicts its manifest is skipped and
reported. Otherwise it is the branch point of the run's parent; without a parent, the run starts from the base. If another
number of workers wrote it, its universal form is made or reused, which DeepSpeed must know at startup.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from cpt_ray.edges import store
from cpt_ray.edges.storage import verify_files
from cpt_ray.errors import ArtifactError, CptRayError, TrainingError
from cpt_ray.records import CheckpointManifest, FileEntry, LoadedCheckpoint, RunAttempt, RunProgress
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.checkpoint import universal
from cpt_ray.train.checkpoint.state_figures import require_same_state
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.engine.optimizer_kinds import KINDS
from cpt_ray.train.task import TrainTask

_OWNER = re.compile(r"zero_pp_rank_(\d+)_mp_rank_")
"""In the name of a file that one rank wrote for itself, and that only it reads."""


@dataclass(frozen=True)
class Resume:
    """A verified checkpoint."""

    folder: Path
    manifest: CheckpointManifest
    state_folder: Path
    """What the engine loads: the checkpoint itself, or its universal form."""
    own: bool
    """Whether the run itself wrote it, not its parent."""
    skipped: tuple[str, ...]
    verify_s: float
    convert_s: float

    @property
    def converted(self) -> bool:
        """Whether the engine loads the universal form."""
        return self.state_folder != self.folder


@dataclass(frozen=True)
class Start:
    """Where a run starts."""

    branch: RunProgress | None
    """Progress of the parent where the run branched from it, the same after every resume; None without a parent."""
    resume: Resume | None
    """None when starting from the base."""


@dataclass(frozen=True)
class _Candidates:
    own: list[tuple[Path, CheckpointManifest]]
    branch: list[tuple[Path, CheckpointManifest]]
    """Attempts at the branch point, newest first; they are at the same position."""
    unreadable: tuple[str, ...]
    start: str
    refusal: CptRayError | None = None


def verify(folder: Path, files: Iterable[FileEntry], *, rank: int, world_size: int, whole: bool = False) -> str | None:
    """Check every file by size and content hash; collective, each rank checks a share and all get the result.

    From a store each rank fetches and checks what it will read: between them, every file.

    Args:
        folder: The checkpoint's folder.
        files: Its files.
        rank: This worker.
        world_size: All workers.
        whole: Whether rank 0 will read all of them.

    Returns:
        The problem, or None.
    """
    problem: str | None = None
    try:
        if store.is_mirrored(folder):
            mine = _of_rank(files, rank=rank, whole=whole)
            _fetch(folder, mine)
        else:
            # A share each: one rank would hash a large checkpoint alone while the others wait.
            mine = list(files)[rank::world_size]
        verify_files(folder, mine, deep=True)
    except ArtifactError as error:
        problem = error.problem
    problems: list[str | None] = [None] * world_size
    dist.all_gather_object(problems, problem)
    return next(filter(None, problems), None)


def _of_rank(files: Iterable[FileEntry], *, rank: int, whole: bool) -> list[FileEntry]:
    """The files of a checkpoint that one rank reads.

    Args:
        files: All of its files.
        rank: The rank.
        whole: Whether rank 0 reads all of them, to convert them, and the others none.
    """
    if whole:
        return list(files) if rank == 0 else []
    owners = ((entry, _OWNER.search(entry.path)) for entry in files)
    return [entry for entry, owner in owners if owner is None or int(owner[1]) == rank]


def _fetch(folder: Path, files: Sequence[FileEntry]) -> None:
    """Bring files of a checkpoint to this node."""
    if store.is_mirrored(folder):
        stored = store.listing(folder)
        store.refresh(folder, {entry.path: stored[entry.path] for entry in files if entry.path in stored})


def find_start(task: TrainTask, *, rank: int, world_size: int) -> Start:
    """Find, verify and if needed convert the checkpoint that the run resumes from; collective.

    Raises:
        TrainingError: If the checkpoint has a different stage, precision, data or run, if it cannot be converted, or if a
            parent has no checkpoint at the branch point.
        ArtifactError: If the run or its parent has checkpoints, but none is intact.
    """
    # One rank looks: on a shared filesystem two ranks can see different checkpoints, and all must resume from the same one.
    candidates = _look(task) if rank == 0 else None
    shared = [candidates]
    dist.broadcast_object_list(shared)
    candidates = shared[0]
    if candidates is None or candidates.refusal is not None:
        raise (candidates and candidates.refusal) or RuntimeError("rank 0 sent no candidates")
    branch = candidates.branch
    return Start(
        branch=branch[0][1].progress if branch else None,
        resume=_first_whole(task, candidates, rank=rank, world_size=world_size),
    )


def _first_whole(task: TrainTask, candidates: _Candidates, *, rank: int, world_size: int) -> Resume | None:
    started = time.perf_counter()
    skipped = list(candidates.unreadable)
    own = [(folder, manifest, task.fingerprint) for folder, manifest in reversed(candidates.own)]
    # A run that has checkpoints never restarts from its parent's, which would repeat rows that it was charged for.
    branch = candidates.branch if not own and not skipped else []
    parent = [(folder, manifest, task.parent_fingerprint or "") for folder, manifest in branch]
    for found, manifest, run_fingerprint in own + parent:
        folder = store.here(found)
        checkpoint.require_compatible(
            folder,
            manifest,
            zero_stage=task.settings.deepspeed.zero_stage,
            precision=task.settings.train.precision,
            data_fingerprint=task.data_fingerprint,
            run_fingerprint=run_fingerprint,
        )
        converted = universal.needs_conversion(manifest, world_size)
        problem = verify(folder, manifest.files, rank=rank, world_size=world_size, whole=converted)
        if problem is not None:
            skipped.append(problem)
            continue
        verify_s = time.perf_counter() - started
        state_folder, convert_s = folder, 0.0
        if converted:
            _require_divisible(folder, manifest, task.settings.train.optimizer)
            state_folder, convert_s = universal.provide(folder, manifest, rank=rank, attempt=candidates.start)
        return Resume(folder, manifest, state_folder, bool(own), tuple(skipped), verify_s, convert_s)
    if skipped:
        folder = Path(task.parent_folder if parent and task.parent_folder else task.run_folder)
        raise ArtifactError(
            f"{folder}: no checkpoint is intact: {'; '.join(skipped)}",
            fix=f"delete {folder} and re-run the same command; it will be trained from the start",
        )
    return None


def _require_divisible(folder: Path, manifest: CheckpointManifest, optimizer: str) -> None:
    if not KINDS[optimizer].can_be_divided:
        raise TrainingError(
            f"{folder}: written by {manifest.world_size} workers; the quantized moments of {optimizer} cannot be divided among "
            "another number",
            fix=f"resume with runtime.workers={manifest.world_size}",
        )


def describe_resume(attempt: RunAttempt) -> str | None:
    """A note on the checkpoint that an attempt resumes from; None for a plain start from the base or a branch."""
    loaded = attempt.loaded
    if loaded is None or not (attempt.resumed or loaded.converted or loaded.skipped):
        return None
    workers = f"{loaded.world_size} {'worker' if loaded.world_size == 1 else 'workers'}"
    now = f", converted for {attempt.world_size} through DeepSpeed's universal format" if loaded.converted else ""
    text = f"continues from {loaded.folder}, written by {workers}{now}"
    return f"{text}; skipped: {'; '.join(loaded.skipped)}" if loaded.skipped else text


def load_checkpoint(found: Resume, engine: Engine, vocabulary_size: int, precision: str) -> LoadedCheckpoint:
    """Load the checkpoint and check that its state is the one saved; collective.

    Raises:
        TrainingError: If a figure of the state differs from the manifest's.
    """
    started = time.perf_counter()
    engine.load(found.state_folder)
    load_s = time.perf_counter() - started
    measured = engine.state_figures(vocabulary_size)
    require_same_state(found.manifest.figures, measured, precision=precision, place=str(found.folder))
    return LoadedCheckpoint(
        folder=str(found.folder),
        world_size=found.manifest.world_size,
        converted=found.converted,
        skipped=found.skipped,
        verify_s=found.verify_s,
        convert_s=found.convert_s,
        load_s=load_s,
        saved=found.manifest.figures,
        measured=measured,
    )


def _look(task: TrainTask) -> _Candidates:
    own, unreadable = checkpoint.scan(Path(task.run_folder))
    start = f"{os.getpid()}-{time.time_ns()}"
    branch = []
    if task.parent_folder is not None:
        try:
            branch = checkpoint.first_at_or_past(Path(task.parent_folder), task.spec.start_tokens)
        except CptRayError as refusal:
            return _Candidates(own, [], unreadable, start, refusal)
    return _Candidates(own, branch, unreadable, start)
