"""Scores that exist already: they belong to an export's content, not to the run that made it, so nothing is scored twice.

The key of scores covers the export's files, the items they were scored on, the settings and the version of the scoring code.
Two runs with equal weights share scores, and a run that is trained again to the same export is not scored again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from cpt_ray.edges import store
from cpt_ray.edges.storage import verify_files, write_atomic
from cpt_ray.errors import ArtifactError
from cpt_ray.records import Artifact, EvalRecord, FileEntry, RunRecord

_SCORED = (".safetensors", ".json", ".model", ".txt", ".jinja", ".py")
"""Endings of an export's files that a score can depend on: weights, configuration, tokenizer; not the model card."""


def score_key(files: Iterable[FileEntry], export: str, rest: Mapping[str, object]) -> str:
    """The key of a model's scores.

    Args:
        files: Of the artifact that holds the export.
        export: The export's folder in it, with a slash at its end; empty if it is the artifact.
        rest: What else decides the scores, as plain values.
    """
    found = {
        entry.path.removeprefix(export): entry.sha256
        for entry in files
        if entry.path.startswith(export) and "/" not in entry.path.removeprefix(export) and entry.path.endswith(_SCORED)
    }
    return hashlib.sha256(json.dumps([found, dict(rest)], sort_keys=True, default=str).encode()).hexdigest()


def known_scores(folder: Path) -> dict[str, Path]:
    """By key, the folder of complete scores below the folder of a study's scores."""
    found: dict[str, Path] = {}
    names, found_in = (f"*/{Artifact.FILE}", f"*/{EvalRecord.FILE}"), sorted(folder.glob(f"*/{Artifact.FILE}"))
    if store.is_mirrored(folder):  # a mirror may hold what was deleted in the store
        found_in = [folder / name for name in sorted(store.fetched_names(folder, *names)) if name.endswith(Artifact.FILE)]
    for artifact in found_in:
        try:
            key = EvalRecord.of(artifact.parent).key
        except (OSError, ValueError):  # of an older format, or damaged: whoever needs it is told then
            continue
        if key:
            found.setdefault(key, artifact.parent)
    return found


def is_intact(folder: Path) -> bool:
    """Whether all files of complete scores are as they were written."""
    try:
        verify_files(folder, Artifact.of(folder).files, deep=True)
    except (ArtifactError, ValueError):
        return False
    return True


def copy_scores(source: Path, folder: Path, run: RunRecord) -> EvalRecord:
    """Give a run the scores of a model with the same content."""
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(Artifact.FILE, EvalRecord.FILE))
    who = {
        "run": run.run,
        "model": run.model,
        "arm": run.arm,
        "seed": run.seed,
        "budget_tokens": run.budget_tokens,
        "tokens_seen": run.tokens_seen,
    }
    store.push_folder(folder)
    record = EvalRecord.of(source).model_copy(update=who)
    write_atomic(folder / EvalRecord.FILE, record.to_json())
    return record
