"""What the ranks of a process group do in tests of a root in a bucket: each with a mirror that no other rank sees."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist

from cpt_ray.edges import store
from cpt_ray.edges.store.addresses import CACHE
from cpt_ray.errors import CptRayError
from tests.train.checkpoint import resume_jobs


def on_own_node(cache: Path, job: Any, root: Path, *arguments: Any) -> Any:
    """Run a job of `resume_jobs` as a node of its own: its mirror is named after the folder, the rank and the process."""
    os.environ[CACHE] = str(cache / f"rank-{dist.get_rank()}-{os.getpid()}-{time.time_ns()}")
    os.environ["LOCAL_RANK"] = "0"
    return job(store.here(root), *arguments)


def stop_soon(root: Path, folder: str, settings: dict[str, Any]) -> CptRayError | None:
    """Train while another process, as a driver does, sends the request to stop through the bucket."""
    if dist.get_rank() == 0:
        store.push(_touched(root / "stop-1"))
        (root / "stop-1").unlink()
    return resume_jobs.train_run(root, folder, settings)


def _touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
