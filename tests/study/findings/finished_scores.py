"""Evaluation artifacts of made-up studies, as `evaluate` leaves them under a root."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt_ray.records import Artifact, EvalRecord, ExamItem, write_items
from tests.compare.conftest import Laboratory

SETTINGS = {"context": 512, "document_tokens": 512, "exam_context": 1024, "precision": "bf16", "harness_seed": 1234}
SETTINGS |= {"confidence": 0.95, "subsets": 400, "seed": 0}


def laboratory_at(root: Path, documents: int = 40) -> Laboratory:
    return Laboratory(root / "evaluate", documents)


def commit_exams(root: Path, questions: Mapping[str, str], *, example: str) -> str:
    """An artifact of exams with one question and one example each; its fingerprint."""
    known = hashlib.sha256(f"{questions} {example}".encode()).hexdigest()
    folder = root / "exams" / f"study-{known[:8]}"
    folder.mkdir(parents=True)
    for file, texts in ((ExamItem.FILE, questions), (ExamItem.EXAMPLES, dict.fromkeys(questions, example))):
        items = [ExamItem(task=exam, id="1", question=text, choices=("a", "b"), answer=0) for exam, text in texts.items()]
        (folder / file).write_text(write_items(items), encoding="utf-8")
    artifact = Artifact(
        stage="exams", name="study", fingerprint=known, inputs={}, settings={}, files=(), wall_s=1.0, created="2026-01-01",
        versions={},
    )  # fmt: skip
    (folder / Artifact.FILE).write_text(artifact.to_json(), encoding="utf-8")
    return known


def commit(
    laboratory: Laboratory, *, created: str = "2026-01-01", inputs: Mapping[str, str] | None = None, **settings: Any
) -> list[Path]:
    """Turn everything that the laboratory has scored into artifacts; return their folders."""
    folders = []
    for record in laboratory.evals:
        known = hashlib.sha256(f"{record.run} {created} {settings}".encode()).hexdigest()
        folder = laboratory.folders[record.run].rename(laboratory.root / f"{record.run}-{known[:8]}")
        artifact = Artifact(
            stage="evaluate", name=record.run, fingerprint=known, inputs=dict(inputs or {}),
            settings={**SETTINGS, **settings}, files=(),
            wall_s=1.0, created=created, versions={},
        )  # fmt: skip
        (folder / EvalRecord.FILE).write_text(record.to_json(), encoding="utf-8")
        (folder / Artifact.FILE).write_text(artifact.to_json(), encoding="utf-8")
        folders.append(folder)
    laboratory.evals.clear()
    return folders
