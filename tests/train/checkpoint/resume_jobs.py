"""What the ranks of a process group do in checkpoint tests: whole runs, uninterrupted, killed, or with a corrupted state."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist

from cpt_ray.edges import store
from cpt_ray.errors import CptRayError
from cpt_ray.records import RunAttempt, StepMetrics
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.monitor.heartbeat import TellDriver
from cpt_ray.train.monitor.metrics import read_metrics
from tests.train.tiny_run import make_task, spec_named, tiny_config


def prepare_task(root: Path, folder: str, settings: dict[str, Any]):
    """The task of the one budget that `settings` names, trained in `root/folder`; every caller writes the same files."""
    config = tiny_config(root / "configs" / folder, **settings)
    return make_task(root, config, spec_named(config, "legal-"), folder)


def train_run(root: Path, folder: str, settings: dict[str, Any], *, tell: TellDriver | None = None) -> CptRayError | None:
    """Train to the end, or return the refusal."""
    from cpt_ray.train.worker import run_worker

    task = _task_on_rank_zero(root, folder, settings)
    try:
        run_worker(task, tell=tell)
    except CptRayError as error:
        return error
    return None


def train_and_die(root: Path, folder: str, settings: dict[str, Any], commits: int) -> None:
    """Train until `commits` checkpoints are committed, then kill the last rank with SIGKILL, whatever it is doing."""
    if dist.get_rank() == dist.get_world_size() - 1:
        threading.Thread(target=_die_after, args=(root / folder, commits), daemon=True).start()
    train_run(root, folder, settings)


def train_without_moments(root: Path, folder: str, settings: dict[str, Any], guarded: bool) -> CptRayError | None:
    """Resume with all moments set to zero after the load, like a lost optimizer; `guarded` leaves the guard on."""
    from cpt_ray.train.checkpoint import resume
    from cpt_ray.train.engine.engine import Engine

    load, guard = Engine.load, resume.require_same_state

    def load_and_lose(engine: Engine, place: Path) -> None:
        load(engine, place)
        for state in engine._base_optimizer.state.values():
            for moment in filter(state.__contains__, engine._moments):
                state[moment].zero_()

    Engine.load = load_and_lose
    if not guarded:
        resume.require_same_state = lambda *_, **__: None
    try:
        return train_run(root, folder, settings)
    finally:
        Engine.load, resume.require_same_state = load, guard


def cut_after(root: Path, source: str, target: str, step: int) -> None:
    """Copy a finished run as it was right after it committed its checkpoint at `step`."""
    shutil.copytree(root / source, root / target)
    (root / target / "run.json").unlink()
    shutil.rmtree(root / target / "export", ignore_errors=True)
    for folder, manifest in checkpoint.committed(root / target):
        if manifest.progress.step > step:
            shutil.rmtree(folder)
    assert checkpoint.newest(root / target)[1].progress.step == step


def attempts(folder: Path) -> list[RunAttempt]:
    """The starts of a run."""
    return [RunAttempt.load(path) for path in sorted((folder / "attempts").glob("attempt-*.json"))]


def steps_after(folder: Path, step: int) -> list[StepMetrics]:
    """The metrics of the steps after `step`."""
    return [metrics for metrics in read_metrics(folder) if metrics.step > step]


def _task_on_rank_zero(root: Path, folder: str, settings: dict[str, Any]):
    task = [prepare_task(root, folder, dict(settings)) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(task)
    return task[0]


def _stored_commits(folder: Path) -> int:
    return sum(name.endswith("/manifest.json") for name in store.sizes(folder / "checkpoints") or ())


def _die_after(folder: Path, commits: int) -> None:
    while len(list(folder.glob("checkpoints/step-*/manifest.json"))) < commits and _stored_commits(folder) < commits:
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)
