"""Runs that were trained for other budgets, and what of them a study with more budgets takes over.

The trunk of a study with more budgets is longer and has more branch points, so its fingerprint is another, and so is that of
everything that branches from it. But up to where the shorter one ends both are the same function of data and seed: here the
shorter one's checkpoints and measurements become the beginning of the longer one, and finished branches become its branches.

In: the artifacts of a study, and the folders below its root. Out: the folders of runs that were missing, begun or finished;
large files are hard links where the disk allows them. Guarantee: a run is taken over only if all that shapes its weights up to
there is equal; what is then trained is what would have been trained from the start.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_ray.config.values import format_count
from cpt_ray.edges.storage import remove_tree, unwritable
from cpt_ray.edges.store import is_mirrored
from cpt_ray.records import Artifact, CheckpointManifest, RunRecord
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.stage import Session
from cpt_ray.study.stages.train import TRAIN, RunNode
from cpt_ray.train.checkpoint import committed
from cpt_ray.train.task import AVERAGED, EXPORT, POINTS

_ENDS = ("stop_tokens", "branch_tokens", "trajectory_tokens")
"""What of a run's spec says how far it goes and what it keeps on its way, but not what its weights are at a position."""
_LARGE = (committed.FOLDER, EXPORT, POINTS, AVERAGED)
"""Files that are written once, so that two folders may share them."""
_LEFT = ("logs", "heartbeats", Artifact.FILE)


@dataclass(frozen=True)
class Continued:
    """A run that is not there yet, and the folder of one that it goes on from, or is."""

    node: RunNode
    source: Path
    is_whole: bool
    """Whether nothing is left to train."""
    tokens: int
    """Tokens that are in the weights of what is taken over, since the base."""
    before: int
    """Only checkpoints with fewer tokens spent are taken over: here the longer run keeps something that the other did not."""

    def __str__(self) -> str:
        if self.is_whole:
            return f"{self.node.label}: is {self.source.name}, trained for other budgets"
        return f"{self.node.label}: goes on at {format_count(self.tokens)} tokens, from the checkpoint of {self.source.name}"


def find_continued(graph: StudyGraph) -> list[Continued]:
    """The runs of the chosen cells that are missing, and that others below the same root have begun or finished.

    Args:
        graph: The study. Of a root in a bucket nothing is taken over: its runs would be sent twice.

    Raises:
        ArtifactError: If a finished run cannot be read.
    """
    if is_mirrored(graph.root):
        return []
    same: dict[str, set[str]] = {}
    found = []
    for node in graph.of(TRAIN):
        same[node.fingerprint] = {node.fingerprint}
        fitting = []
        for folder, artifact in _others(node):
            if _is_same_path(node, artifact, same):
                same[node.fingerprint].add(artifact.fingerprint)
                fitting.append(_continued(node, folder, artifact))
        missing = not store.exists(node) and committed.newest(node.folder) is None
        usable = [one for one in fitting if one.is_whole or one.tokens > node.work.spec.start_tokens]
        if missing and usable:
            found.append(max(usable, key=lambda one: (one.is_whole, one.tokens)))
    return found


def take_over(found: Continued, session: Session) -> None:
    """Begin a run with what another has, or finish it; the other stays as it is.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    folder = found.node.folder
    temporary = folder.with_name(f".{folder.name}.tmp")
    old = Artifact.of(found.source)
    remove_tree(temporary)
    for path in _files(found):
        target = temporary / path.relative_to(found.source)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _share(path, target, may_link=path.relative_to(found.source).parts[0] in _LARGE)
        except OSError as error:
            raise unwritable(target, error) from error
    _rename(temporary, found.node)
    remove_tree(folder)
    os.replace(temporary, folder)
    if found.is_whole:
        # The time that it took to train it, not to find it.
        session.commit(found.node, started=time.perf_counter() - old.wall_s)
    session.console.step(f"  {found}")


def _others(node: RunNode) -> Iterator[tuple[Path, Artifact]]:
    """Finished runs of the same name below the same root."""
    for path in sorted(node.folder.parent.glob(f"{node.stem}-????????/{Artifact.FILE}")):
        if path.parent != node.folder:
            # Of another version of this package, or damaged: not a run to go on from.
            with contextlib.suppress(ValueError, OSError):
                yield path.parent, Artifact.load(path)


def _is_same_path(node: RunNode, other: Artifact, same: Mapping[str, set[str]]) -> bool:
    """Whether both have the same weights at the same position, as far as both go."""
    ours, theirs = _plain(node.settings), _plain(other.settings)
    our_spec, their_spec = ours.pop("spec"), theirs.pop("spec", None)
    if ours != theirs or their_spec is None or node.inputs.keys() != other.inputs.keys():
        return False
    if {**our_spec, **dict.fromkeys(_ENDS)} != {**their_spec, **dict.fromkeys(_ENDS)}:
        return False
    return all(
        other.inputs[name] in (same.get(print_, {print_}) if name == "parent" else {print_})
        for name, print_ in node.input_fingerprints.items()
    )


def _continued(node: RunNode, folder: Path, other: Artifact) -> Continued:
    ours, theirs = _plain(node.settings)["spec"], _plain(other.settings)["spec"]
    if ours == theirs:
        return Continued(node, folder, is_whole=True, tokens=RunRecord.of(folder).tokens_seen, before=ours["stop_tokens"] + 1)
    kept = ("branch_tokens", "trajectory_tokens")
    lacking = [mark for key in kept for mark in ours[key] if mark not in theirs[key] and mark <= theirs["stop_tokens"]]
    # A longer run, trained for budgets that are no longer wanted, passes our end: only what is before it is ours.
    before = min([*lacking, ours["stop_tokens"] + (0 if theirs["stop_tokens"] > ours["stop_tokens"] else 10**18)])
    usable = [manifest.progress for _, manifest in committed.committed(folder) if manifest.progress.tokens_spent < before]
    return Continued(node, folder, is_whole=False, tokens=max((one.tokens_seen for one in usable), default=0), before=before)


def _files(found: Continued) -> Iterator[Path]:
    """The files that the new folder gets."""
    late = {folder.name for folder, one in committed.committed(found.source) if one.progress.tokens_spent >= found.before}
    marks = {str(mark) for mark in found.node.work.spec.trajectory_tokens if mark < found.before}
    for path in sorted(found.source.rglob("*")):
        parts = path.relative_to(found.source).parts
        left = parts[0] in _LEFT or (parts[0] == committed.FOLDER and len(parts) > 1 and parts[1] in late)
        is_end = parts[0] in (RunRecord.FILE, EXPORT) or (parts[0] == POINTS and parts[1] not in marks)
        if path.is_file() and not left and (found.is_whole or not is_end):
            yield path


def _share(source: Path, target: Path, *, may_link: bool) -> None:
    if may_link and source.name not in (committed.MANIFEST, RunRecord.FILE):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _rename(folder: Path, node: RunNode) -> None:
    """Give what was copied the name of its new run: fingerprints of checkpoints, paths of exports."""
    for path in folder.glob(f"{committed.FOLDER}/step-*/{committed.MANIFEST}"):
        manifest = CheckpointManifest.load(path)
        path.write_text(manifest.model_copy(update={"run_fingerprint": node.fingerprint}).to_json(), encoding="utf-8")
    for path in (folder / RunRecord.FILE, *folder.glob(f"{POINTS}/*/{RunRecord.FILE}")):
        if path.is_file():
            record = RunRecord.load(path)
            export = node.folder / path.parent.relative_to(folder) / EXPORT
            update = {} if record.export_path is None else {"export_path": str(export)}
            path.write_text(record.model_copy(update=update).to_json(), encoding="utf-8")


def _plain(settings: Mapping[str, object]) -> dict[str, Any]:
    """Settings as they are stored."""
    found: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return found
