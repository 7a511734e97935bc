"""Artifacts: a folder per result, named by what went into it, whole once its `artifact.json` is there.

A place is `<root>/<stage>/<name>-<fingerprint8>/`. The fingerprint covers the settings that shape the result and the
fingerprints of its inputs, so a changed setting makes a new folder beside the old one and everything unchanged is found again.
Where a study runs is not part of it.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.edges.storage import file_entry, unwritable, verify_files, write_atomic
from cpt_ray.errors import ArtifactError
from cpt_ray.records import Artifact

FILE = "artifact.json"

_FORMATS = {
    "models": 1,
    "exams": 1,
    "scan": 1,
    "documents": 2,
    "held_out": 1,
    "shards": 3,
    "late_scan": 1,
    "train": 2,
    "evaluate": 1,
}
"""Raised when a stage's output changes for the same settings; old folders are then left alone and made anew beside."""

_VERSIONED = ("cpt-ray", "torch", "transformers", "deepspeed", "ray", "tokenizers", "lm-eval", "pyarrow")


@dataclass(frozen=True)
class Place:
    """Where an artifact lies, or will."""

    stage: str
    name: str
    fingerprint: str
    folder: Path
    inputs: Mapping[str, str]
    settings: Mapping[str, object]

    @property
    def label(self) -> str:
        """`stage/name-fingerprint8`, as messages call it."""
        return f"{self.stage}/{self.folder.name}"


def fingerprint(value: object) -> str:
    """The sha256 of canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def place(root: Path, stage: str, name: str, *, inputs: Mapping[str, str], settings: Mapping[str, object]) -> Place:
    """Derive the place of an artifact from what goes into it."""
    print_ = fingerprint({"stage": stage, "format": _FORMATS[stage], "inputs": dict(inputs), "settings": dict(settings)})
    return Place(stage, name, print_, root / stage / f"{name}-{print_[:8]}", dict(inputs), dict(settings))


def find(spot: Place) -> Artifact | None:
    """The artifact at a place if it is whole, else None.

    Raises:
        ArtifactError: If the folder holds another fingerprint, or a file is missing or of another size.
    """
    if not (spot.folder / FILE).exists():
        return None
    artifact = read(spot)
    verify_files(spot.folder, artifact.files, deep=False)
    return artifact


def read(spot: Place) -> Artifact:
    """The record of a finished artifact; its files are not looked at.

    Raises:
        ArtifactError: If it cannot be read, or is of another fingerprint.
    """
    path = spot.folder / FILE
    try:
        artifact = Artifact.load(path)
    except ValueError as error:
        raise ArtifactError(f"{path}: not an artifact record: {error}", fix=f"delete {spot.folder}") from None
    if artifact.fingerprint != spot.fingerprint:
        raise ArtifactError(
            f"{spot.folder}: holds fingerprint {artifact.fingerprint[:12]}, its name and inputs say {spot.fingerprint[:12]}",
            fix=f"delete {spot.folder} and run the same command again",
        )
    return artifact


def commit(spot: Place, *, patterns: tuple[str, ...], started: float) -> Artifact:
    """Write the artifact's record, last; `patterns` are globs of the files that belong to it.

    Args:
        spot: Where it lies.
        patterns: Globs relative to the folder.
        started: `time.perf_counter()` at the start of the stage.
    """
    paths = sorted({path for pattern in patterns for path in spot.folder.glob(pattern) if path.is_file()})
    artifact = Artifact(
        stage=spot.stage,
        name=spot.name,
        fingerprint=spot.fingerprint,
        inputs=dict(spot.inputs),
        settings=dict(spot.settings),
        files=tuple(file_entry(spot.folder, path) for path in paths),
        wall_s=time.perf_counter() - started,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions={name: importlib.metadata.version(name) for name in _VERSIONED},
    )
    write_atomic(spot.folder / FILE, artifact.to_json())
    return artifact


def require_writable(root: Path) -> None:
    """Refuse a root that cannot be written, before anything is spent.

    Raises:
        ArtifactError: With the system's reason.
    """
    probe = root / ".writable"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise unwritable(root, error) from error
