"""Hash everything again: raw files, artifacts, shards; and say which file is not what it was.

Every finished artifact lists its files with sizes and hashes; its name holds the fingerprint of its settings and inputs. So the
chain from a raw file to a score is whole if each artifact's files are those that it lists, and the raw files those that it was
read from. Memory: one file's buffer; cost: one reading of everything.

Guarantee: a byte that changed since a file was written is found, whatever its time says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpt_ray.edges.storage import verify_files
from cpt_ray.errors import ArtifactError, CptRayError
from cpt_ray.records import FileEntry
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.stage import Checked, Node


def verify_study(graph: StudyGraph, done: Callable[[Checked], None]) -> list[Checked]:
    """Hash all artifacts of a study that were built, and what their stages check beyond that.

    Args:
        graph: The study's artifacts.
        done: Told about each thing as it is checked.

    Returns:
        Everything that was checked.
    """
    checked: list[Checked] = []
    for node in graph.all():
        if store.exists(node):
            for result in _check(node):
                done(result)
                checked.append(result)
    return checked


def _check(node: Node[Any, Any]) -> list[Checked]:
    """Hash an artifact's files, each on its own, so that every one that is wrong is named; then ask its stage."""
    try:
        artifact = store.read(node)
    except CptRayError as error:
        return [Checked(node.label, "its record", (error,))]
    problems = [problem for entry in artifact.files if (problem := _problem(node, entry)) is not None]
    size = sum(entry.size_bytes for entry in artifact.files)
    result = Checked(node.label, f"{len(artifact.files)} files, {size / 1e6:.1f} MB", tuple(problems))
    # What a stage checks reads these files, so it says nothing new where they are wrong.
    return [result] if problems or node.stage.verify is None else [result, *node.stage.verify(node)]


def _problem(node: Node[Any, Any], entry: FileEntry) -> CptRayError | None:
    try:
        verify_files(node.folder, [entry], deep=True)
    except ArtifactError as error:
        return error
    return None
