"""Runs that were trained for other budgets, and what of them a study with more budgets takes over.

The trunk of a study with more budgets is longer and has more branch points, so its fingerprint is another, and so is that of
everything that branches from it. But up to where the shorter one ends both are the same function of data and seed: here the
shorter one's checkpoints and measurements become the beginning of the longer one, and finished branches become its branches.

In: the artifacts of a study, and the folders below its root. Out: the folders of runs that were missing, begun or finished;
large files are hard links where the disk allows them, and copied within a bucket. Guarantee: a run is taken over only if all
that shapes its weights up to there is equal; what is then trained is what would have been trained from the start.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_ray.config.values import format_count
from cpt_ray.edges.storage import remove_tree, unwritable, write_atomic
from cpt_ray.edges.store import address, is_mirrored, transfer
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
        graph: The study.

    Raises:
        ArtifactError: If a finished run cannot be read.
    """
    missing = [node for node in graph.of(TRAIN) if not store.exists(node) and committed.newest(node.folder) is None]
    if not missing:
        return []
    same: dict[str, set[str]] = {}
    finished = _finished(graph.root / TRAIN.name)
    found = []
    for node in graph.of(TRAIN):
        same[node.fingerprint] = {node.fingerprint}
        fitting = []
        for folder, artifact in _others(node, finished):
            if _is_same_path(node, artifact, same):
                same[node.fingerprint].add(artifact.fingerprint)
                fitting.append(_continued(node, folder, artifact))
        usable = [one for one in fitting if one.is_whole or one.tokens > node.work.spec.start_tokens]
        if node in missing and usable:
            found.append(max(usable, key=lambda one: (one.is_whole, one.tokens)))
    return found


def take_over(found: Continued, session: Session) -> None:
    """Begin a run with what another has, or finish it; the other stays as it is.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    wall_s = Artifact.of(found.source).wall_s
    if is_mirrored(session.root):
        _copy_objects(found)
    else:
        _copy_files(found)
    if found.is_whole:
        # The time that it took to train it, not to find it.
        session.commit(found.node, started=time.perf_counter() - wall_s)
    session.console.step(f"  {found}")


def _copy_files(found: Continued) -> None:
    """Fill the folder at once."""
    folder = found.node.folder
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove_tree(temporary)
    there = [path.relative_to(found.source).as_posix() for path in sorted(found.source.rglob("*")) if path.is_file()]
    for name in _taken(found, there):
        source, target = found.source / name, temporary / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if (edit := _edit(name)) is not None:
                target.write_text(edit(source, found.node), encoding="utf-8")
            else:
                _share(source, target, may_link=name.split("/")[0] in _LARGE)
        except OSError as error:
            raise unwritable(target, error) from error
    remove_tree(folder)
    os.replace(temporary, folder)


def _copy_objects(found: Continued) -> None:
    """Fill the folder in the bucket: a run that is killed meanwhile goes on from the checkpoints that are there."""
    folder = found.node.folder
    remove_tree(folder)
    there = transfer.listing(found.source)
    names = _taken(found, there)
    edits = {name: edit for name in names if (edit := _edit(name)) is not None}
    plain = [name for name in names if name not in edits]
    transfer.at_once(lambda name: transfer.copy(found.source / name, folder / name, there[name].size_bytes), plain)
    # Manifests come last and oldest first, because the newest is what a run goes on from.
    for name in sorted(edits, key=lambda name: (name.endswith(committed.MANIFEST), name)):
        write_atomic(folder / name, edits[name](transfer.fetched(found.source / name), found.node))


def _finished(folder: Path) -> list[Path]:
    """The artifacts of all runs below a root, from one listing."""
    if is_mirrored(folder):
        return sorted(folder / name for name in transfer.fetched_names(folder, f"*/{Artifact.FILE}"))
    return sorted(folder.glob(f"*/{Artifact.FILE}"))


def _others(node: RunNode, finished: Iterable[Path]) -> Iterator[tuple[Path, Artifact]]:
    """Finished runs of the same name below the same root."""
    for path in finished:
        if path.parent != node.folder and path.parent.name.rpartition("-")[0] == node.stem:
            # Of another version of this package, or damaged: not a run to go on from.
            with contextlib.suppress(ValueError, OSError):
                yield path.parent, Artifact.load(path, transfer.fetched)


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
        tokens = RunRecord.load(transfer.fresh(folder / RunRecord.FILE)).tokens_seen
        return Continued(node, folder, is_whole=True, tokens=tokens, before=ours["stop_tokens"] + 1)
    kept = ("branch_tokens", "trajectory_tokens")
    lacking = [mark for key in kept for mark in ours[key] if mark not in theirs[key] and mark <= theirs["stop_tokens"]]
    # A longer run, trained for budgets that are no longer wanted, passes our end: only what is before it is ours.
    before = min([*lacking, ours["stop_tokens"] + (0 if theirs["stop_tokens"] > ours["stop_tokens"] else 10**18)])
    usable = [manifest.progress for _, manifest in committed.committed(folder) if manifest.progress.tokens_spent < before]
    return Continued(node, folder, is_whole=False, tokens=max((one.tokens_seen for one in usable), default=0), before=before)


def _taken(found: Continued, there: Iterable[str]) -> list[str]:
    """Which files of the other run the new folder gets, by relative name."""
    late = {folder.name for folder, one in committed.committed(found.source) if one.progress.tokens_spent >= found.before}
    marks = {str(mark) for mark in found.node.work.spec.trajectory_tokens if mark < found.before}
    taken = []
    for name in there:
        parts = name.split("/")
        left = parts[0] in _LEFT or (parts[0] == committed.FOLDER and len(parts) > 1 and parts[1] in late)
        is_end = parts[0] in (RunRecord.FILE, EXPORT) or (parts[0] == POINTS and parts[1] not in marks)
        if not left and (found.is_whole or not is_end):
            taken.append(name)
    return taken


def _share(source: Path, target: Path, *, may_link: bool) -> None:
    if may_link:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _edit(name: str) -> Callable[[Path, RunNode], str] | None:
    """What gives a file the name of its new run, if it has that of the other."""
    parts = name.split("/")
    if parts[0] == committed.FOLDER and parts[2:] == [committed.MANIFEST]:
        return _manifest_of
    if parts[-1] == RunRecord.FILE and parts[:-1] in ([], [POINTS, *parts[1:2]]):
        return _record_of
    return _index_of if parts[0] == POINTS and parts[-1] == transfer.INDEX else None


def _manifest_of(path: Path, node: RunNode) -> str:
    return CheckpointManifest.load(path).model_copy(update={"run_fingerprint": node.fingerprint}).to_json()


def _record_of(path: Path, node: RunNode) -> str:
    record = RunRecord.load(path)
    if record.export_path is None:
        return record.to_json()
    # A point's record lies beside its export, as the run's does.
    below = Path(POINTS, path.parent.name) if path.parent.parent.name == POINTS else Path()
    return record.model_copy(update={"export_path": address(node.folder / below / EXPORT)}).to_json()


def _index_of(path: Path, _node: RunNode) -> str:
    """An index without the record, whose content is another now."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({name: entry for name, entry in entries.items() if name.split("/")[-1] != RunRecord.FILE})


def _plain(settings: Mapping[str, object]) -> dict[str, Any]:
    """Settings as they are stored."""
    found: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return found
