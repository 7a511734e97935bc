"""Fake checkpoint manifests, and checkpoints that contain only a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpt_ray.records import CheckpointManifest, RunProgress, StateFigures
from cpt_ray.train.checkpoint.committed import FOLDER, MANIFEST

FIGURES = StateFigures(loss=1.0, weights_norm=1.0, moments={"exp_avg": 0.0, "exp_avg_sq": 0.0}, optimizer_steps=1)


def manifest(step: int, **changes: Any) -> CheckpointManifest:
    """The manifest of a checkpoint at `step`, a hundred tokens per step; one worker, ZeRO stage 2, fp32."""
    fields: dict[str, Any] = {
        "run": "r", "attempt": 1, "progress": RunProgress(step=step, position=step, tokens_seen=100 * step), "world_size": 1,
        "zero_stage": 2, "precision": "fp32", "global_batch_size": 4, "run_fingerprint": "r", "data_fingerprint": "d",
        "versions": {}, "files": (), "created": "now", "figures": FIGURES,
    }  # fmt: skip
    return CheckpointManifest(**{**fields, **changes})


def committed_at(run: Path, step: int, *, attempt: int = 1, **changes: Any) -> Path:
    """Make a committed checkpoint without a state; returns its folder."""
    folder = run / FOLDER / f"step-{step:08d}-a{attempt:04d}"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(manifest(step, attempt=attempt, **changes).to_json(), encoding="utf-8")
    return folder
