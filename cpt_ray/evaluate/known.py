"""Scores that exist already: they belong to an export's content, not to the run that made it, so nothing is scored twice.

A held-out set, an exam and an entry of `evaluate.harness_tasks` are a part each. Its per-document or per-item lines are kept in
`scored/KEY/` below the study's root as soon as they are there, under a key of all that they depend on (`evaluate/keys.py`): two
runs with equal weights share them, a task that is added is the only one to be computed, and scoring that was stopped goes on.
Levels and labels are no part of a key: scores and intervals are computed from the lines.
Guarantee: lines that are not as they were written are not used.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.edges import store
from cpt_ray.edges.storage import file_entry, verify_files, write_atomic
from cpt_ray.errors import ArtifactError
from cpt_ray.records import KnownPart, ScoredTask


@dataclass(frozen=True)
class PartKey:
    """The key of a part, and what it is made of."""

    key: str
    depends_on: Mapping[str, object]


def known_part(root: Path, key: str) -> KnownPart | None:
    """A part that was scored before, if all its files are as they were written.

    Args:
        root: The folder `scored` of a study.
        key: Of the part.
    """
    folder = root / key
    try:
        path = store.fetched(folder / KnownPart.FILE)
        part = KnownPart.load(path) if path.is_file() else None
        if part is None or part.key != key:
            return None
        verify_files(folder, part.files, deep=True)
    except (ArtifactError, OSError, ValueError):  # damaged, or of an older format: it is scored again
        return None
    return part


def keep_part(root: Path, key: PartKey, folder: Path, names: Sequence[str], tasks: Sequence[ScoredTask]) -> KnownPart:
    """Keep the files of a part, which has just been scored; its record is written last.

    Args:
        root: The folder `scored` of a study.
        key: Of the part.
        folder: The evaluation's folder, where the files are.
        names: Their paths relative to it.
        tasks: What the part consists of.
    """
    there = root / key.key
    for name in names:
        write_atomic(there / name, (folder / name).read_bytes())
    files = tuple(file_entry(there, there / name) for name in names)
    part = KnownPart(key=key.key, depends_on=dict(key.depends_on), tasks=tuple(tasks), files=files)
    write_atomic(there / KnownPart.FILE, part.to_json())
    return part


def take_part(root: Path, part: KnownPart, folder: Path) -> None:
    """Copy the files of a known part into an evaluation's folder."""
    for entry in part.files:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / part.key / entry.path, target)
        store.push(target)
