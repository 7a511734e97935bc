"""Roots of made-up studies: a lease, what a command noted, and what runs wrote."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import psutil

from cpt_ray.edges.lease import FILE as LEASE_FILE
from cpt_ray.edges.lease import Lease
from cpt_ray.records import CommandRecord, Heartbeat, PlannedArtifact, PlannedStudy, RunEvent, StepMetrics

TRUNK, SMALL, LARGE = "m-legal-trunk-seed0", "m-legal-500-seed0", "m-legal-1000-seed0"
_PLAN = (
    ("documents", "prepare", "m", None),
    ("train", "train", TRUNK, (0, 800)),
    ("train", "train", SMALL, (400, 500)),
    ("train", "train", LARGE, (800, 1000)),
    ("evaluate", "evaluate", SMALL, None),
)


def folder_of(name: str, stage: str = "train") -> str:
    """Of an artifact, below the root."""
    return f"{stage}/{name}-0123abcd"


def make_root(root: Path, *, released: bool = False, pid: int | None = None, host: str | None = None, **command: Any) -> Path:
    """A study whose driver is this process, or one of another `pid` or `host`, and which has made nothing yet."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "study.yaml").write_text("study: {name: made-up}\n")
    lease = Lease(
        attempt=2,
        host=host or socket.gethostname(),
        pid=pid or os.getpid(),
        process_start=psutil.Process().create_time(),
        renewed=time.time() - 3,
        released=released,
    )
    (root / LEASE_FILE).write_text(lease.to_json())
    artifacts = tuple(
        PlannedArtifact(
            stage=stage,
            verb=verb,
            name=name,
            folder=folder_of(name, stage),
            start_tokens=ends[0] if ends else None,
            stop_tokens=ends[1] if ends else None,
        )
        for stage, verb, name, ends in _PLAN
    )
    (root / PlannedStudy.FILE).write_text(PlannedStudy(study="made-up", artifacts=artifacts).to_json())
    facts: dict[str, Any] = {
        "attempt": 2, "command": "cpt-ray run my.yaml", "folder": os.getcwd(), "host": lease.host, "pid": lease.pid,
        "started": time.time() - 600,
    }  # fmt: skip
    (root / CommandRecord.FILE).write_text(CommandRecord(**{**facts, **command}).to_json())
    return root


def make_done(root: Path, *labels: tuple[str, str]) -> None:
    """Commit artifacts, given as stage and name."""
    for stage, name in labels:
        (root / folder_of(name, stage)).mkdir(parents=True, exist_ok=True)
        (root / folder_of(name, stage) / "artifact.json").write_text("{}")


def make_all_done(root: Path) -> None:
    """Commit all that is planned, and a report."""
    make_done(root, *((stage, name) for stage, _, name, _ in _PLAN))
    (root / "report.html").write_text("<html>")


def step(number: int, *, attempt: int = 1, tokens: int = 50, loss: float | None = None) -> StepMetrics:
    """A step of one second, at 50 tokens each."""
    return StepMetrics(
        attempt=attempt, step=number, tokens_seen=number * tokens, loss=loss or 9.0 - 0.1 * number, learning_rate=1e-4,
        gradient_norm=1.0, tokens_per_s=tokens, step_s=1.0, data_wait_s=0.0, mfu=None,
    )  # fmt: skip


def write_steps(folder: Path, steps: list[StepMetrics], attempt: int = 1) -> None:
    """Write the lines of an attempt."""
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    with (folder / "metrics" / f"attempt-{attempt:04d}.jsonl").open("a") as stream:
        stream.writelines(one.model_dump_json() + "\n" for one in steps)


def write_training(root: Path, name: str, steps: int, *, workers: int = 2) -> Path:
    """A run in training: steps, heartbeats of two workers of which the second is behind, a resume and a spike."""
    folder = root / folder_of(name)
    write_steps(folder, [step(number) for number in range(1, steps + 1)])
    (folder / "heartbeats").mkdir(parents=True)
    for rank in range(workers):
        beat = Heartbeat(
            rank=rank, world_size=workers, host=f"node-{rank}", pid=100 + rank, step=steps, phase="forward", moves=9 - rank,
            time=time.time() - 2 - 10 * rank,
        )  # fmt: skip
        (folder / "heartbeats" / f"rank-{rank:05d}.json").write_text(beat.to_json())
    (folder / "events").mkdir()
    told = [("resume", "from step 2"), ("checkpoint", "2.1 GB in 3 s"), ("spike", "loss 9.1, usually 8.2")]
    events = [RunEvent(kind=kind, attempt=1, step=3 + n, tokens_seen=150, text=text) for n, (kind, text) in enumerate(told)]
    (folder / "events" / "attempt-0001.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in events))
    return folder


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and modification time."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}


def said_json(text: str) -> dict[str, Any]:
    """What `--json` printed."""
    found: dict[str, Any] = json.loads(text)
    return found


FAILED = """2026-01-01 10:00:03,000 INFO cpt_ray.train.worker: ended early
Traceback (most recent call last):
  File x
OSError: no
"""


def make_logged_root(folder):
    """A study with the logs of a driver and two workers, of which the second failed."""
    root = make_root(folder)
    (root / "logs").mkdir()
    (root / "logs" / "driver.log").write_text(
        "2026-01-01 10:00:00,000 INFO cpt_ray.study.live.session: attempt 1\n"
        "2026-01-01 10:00:02,500 WARNING x: source is small\n"
        "2026-01-01 10:00:09,000 INFO cpt_ray.study.live.session: made train\n"
    )
    logs = root / folder_of(TRUNK) / "logs"
    logs.mkdir(parents=True)
    (logs / "rank-00000.log").write_text("2026-01-01 10:00:01,000 INFO x: run on rank 0 of 2\n")
    (logs / "rank-00001.log").write_text("2026-01-01 10:00:02,000 INFO x: run on rank 1 of 2\n" + FAILED)
    return root
