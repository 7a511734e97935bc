"""Rehashes everything (raw files, artifacts, shards) and reports each file that has changed.

Every finished artifact lists its files with sizes and hashes; its name holds the fingerprint of its settings and inputs. So the
chain from raw file to score is intact if each artifact's files match its list, and the raw files match what was read.
Memory: one buffer. Cost: one read of everything, at the processor's SHA-256 speed.

Guarantee: a byte that changed since a file was written is found, whatever the file's modification time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from cpt_ray.edges.storage import verify_files
from cpt_ray.edges.store import sync_files
from cpt_ray.errors import ArtifactError, CptRayError
from cpt_ray.records import FileEntry
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.preflight.bases import changed_bases
from cpt_ray.study.stages.stage import Checked, Node


def verify_study(graph: StudyGraph, done: Callable[[Checked], None]) -> list[Checked]:
    """Hash all artifacts that were built, and run the extra checks of their stages.

    Args:
        graph: The study's artifacts.
        done: Called with each item as it is checked.

    Returns:
        All items checked.
    """
    checked: list[Checked] = []
    built = (result for node in graph.all() if store.exists(node) for result in _check(node))
    for result in itertools.chain(built, changed_bases(graph)):
        done(result)
        checked.append(result)
    return checked


def _check(node: Node[Any, Any]) -> list[Checked]:
    """Hash an artifact's files one by one, so that every changed file is named; then run its stage's check."""
    try:
        artifact = store.read(node)
        sync_files(node.folder, [entry.path for entry in artifact.files])
    except CptRayError as error:
        return [Checked(node.label, "its record", (error,))]
    problems = [problem for entry in artifact.files if (problem := _problem(node, entry)) is not None]
    size = sum(entry.size_bytes for entry in artifact.files)
    result = Checked(node.label, f"{len(artifact.files)} files, {size / 1e6:.1f} MB", tuple(problems))
    # The stage's check reads the same files, so it adds nothing if they are wrong.
    return [result] if problems or node.stage.verify is None else [result, *node.stage.verify(node)]


def _problem(node: Node[Any, Any], entry: FileEntry) -> CptRayError | None:
    try:
        verify_files(node.folder, [entry], deep=True)
    except ArtifactError as error:
        return error
    return None
