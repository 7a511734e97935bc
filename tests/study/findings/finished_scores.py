"""Evaluation artifacts of made-up studies, as `evaluate` leaves them under a root."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cpt_ray.records import Artifact, EvalRecord
from tests.compare.conftest import Laboratory

SETTINGS = {"context": 512, "document_tokens": 512, "exam_context": 1024, "precision": "bf16", "harness_seed": 1234}
SETTINGS |= {"confidence": 0.95, "subsets": 400, "seed": 0}


def laboratory_at(root: Path, documents: int = 40) -> Laboratory:
    return Laboratory(root / "evaluate", documents)


def commit(laboratory: Laboratory, *, created: str = "2026-01-01", **settings: Any) -> list[Path]:
    """Turn everything that the laboratory has scored into artifacts; return their folders."""
    folders = []
    for record in laboratory.evals:
        known = hashlib.sha256(f"{record.run} {created} {settings}".encode()).hexdigest()
        folder = laboratory.folders[record.run].rename(laboratory.root / f"{record.run}-{known[:8]}")
        artifact = Artifact(
            stage="evaluate", name=record.run, fingerprint=known, inputs={}, settings={**SETTINGS, **settings}, files=(),
            wall_s=1.0, created=created, versions={},
        )  # fmt: skip
        (folder / EvalRecord.FILE).write_text(record.to_json(), encoding="utf-8")
        (folder / Artifact.FILE).write_text(artifact.to_json(), encoding="utf-8")
        folders.append(folder)
    laboratory.evals.clear()
    return folders
