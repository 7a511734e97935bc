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


def train_until_told(root: Path, folder: str, settings: dict[str, Any]) -> CptRayError | None:
    """Train until the driver answers a heartbeat of the last rank that it wants a stop, which it does at the second step."""
    last = dist.get_rank() == dist.get_world_size() - 1
    return resume_jobs.train_run(root, folder, settings, tell=lambda beat: last and beat.step >= 2)
