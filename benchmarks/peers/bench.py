"""Shared by the parts of the peers' benchmark: sizes, folders, environment, and what a claim says of a peer."""

from __future__ import annotations

import functools
import math
import os
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure.claims import POSITIVE, START_NOISE, Claim
from benchmarks.measure.turns import REPOSITORY, TURN_STEPS
from benchmarks.peers.material import Material, demo_base, write_texts
from benchmarks.train.runs import Shape
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.ray_runtime import worker_environment
from cpt_ray.model.layers.products import has_units

STUDY = Path(__file__).with_name("study.yaml")
ROOT = REPOSITORY / "runs" / "bench-peers"
DEEPSPEED = "ds_configs/zero2_bf16.json"
THREADS = os.cpu_count() or 1


class Bench:
    """Sizes and folders; a quick run has separate ones."""

    def __init__(self, *, quick: bool, steps: int, root: Path = ROOT) -> None:
        self.quick = quick
        self.common = root
        self.root = root / "quick" if quick else root
        self.root.mkdir(parents=True, exist_ok=True)
        self.shape = Shape(length=512, rows=1 if quick else 4, micro_rows=1 if quick else 4, warmup=2, steps=steps)
        self.resume_steps = 1_500 if quick else 5_000
        self.num_items = 8 if quick else 40

    @classmethod
    def quickly(cls) -> Bench:
        """One turn a side."""
        return cls(quick=True, steps=TURN_STEPS)

    @functools.cached_property
    def text(self) -> Material:
        """The text in every layout."""
        return write_texts(self.root / "text", 400_000 if self.quick else 2_000_000)

    @functools.cached_property
    def base(self) -> Path:
        """The demo's base."""
        return demo_base(self.common / "base")

    @functools.cached_property
    def precision(self) -> str:
        """What both sides compute in: bf16, or fp32 on a CPU without units for it, where a peer would take 16 times as long."""
        return "bf16" if has_units(torch.bfloat16) else "fp32"

    @property
    def plain_environment(self) -> dict[str, str]:
        """For commands that set up their own workers."""
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        # DeepSpeed loads its operators with the ninja beside the interpreter.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, **offline, "PATH": path, "OMP_NUM_THREADS": str(THREADS)}

    @property
    def environment(self) -> dict[str, str]:
        """For processes that compute: the same threads and allocator on every side."""
        return {**self.plain_environment, **self.worker_variables}

    @property
    def worker_variables(self) -> dict[str, str]:
        """What our workers get."""
        return worker_environment(RuntimeConfig(gpus_per_worker=0))

    def empty(self, name: str) -> Path:
        """An empty folder."""
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def study_overrides(self, root: Path, *more: str) -> tuple[str, ...]:
        """Overrides of the study: its root, the base, the text."""
        places = (f"study.root={root}", f"models.0.base={self.base}", f"sources.0.path={self.text.documents}")
        return (*places, f"runtime.cpus_per_worker={THREADS}", f"train.precision={self.precision}", *more)


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Two figures of the same thing, for the `raw` of a claim; the tables of peers are made of these."""

    peer: str
    """Name and version."""
    ours: float
    theirs: float
    unit: str
    what: str
    """Short, for the table."""
    more: dict[str, Any]
    """Options of the peer, and all single measurements."""

    def raw(self) -> dict[str, Any]:
        """As plain values."""
        figures = {"ours": self.ours, "theirs": self.theirs, "unit": self.unit}
        return {"peer": self.peer, "what": self.what, **figures, **self.more}


def seconds_claim(name: str, beside: Beside, *, compared_with: str) -> Claim:
    """The claim of two times that were measured once each, starts included: they vary by what starts vary by."""
    ratio = beside.ours / beside.theirs
    return Claim(
        id=f"peers.{name}_ratio",
        possible=POSITIVE,
        claim=f"wall seconds, {beside.what}, start-up included, ours over theirs; measured once",
        value=ratio,
        spread=math.sqrt(2) * START_NOISE * ratio,
        unit="ratio of seconds",
        target="<= 1.0",
        compared_with=compared_with,
        raw=beside.raw(),
    )


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; one value says nothing of its spread, so that nothing can be judged by it."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.inf
