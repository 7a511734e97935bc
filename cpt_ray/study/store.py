"""Artifacts on disk: a folder per node of the graph, complete once its `artifact.json` exists.

A folder is `<root>/<stage>/<name>-<fingerprint8>/`. The fingerprint covers the settings that shape the result and the
fingerprints of its inputs, so a changed setting gets a new folder next to the old one, and everything unchanged is found again.
The machine that a study runs on is not part of it.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import re
import time
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cpt_ray import __version__
from cpt_ray.config.load import dump_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import versions
from cpt_ray.edges.redaction import redact
from cpt_ray.edges.storage import atomic_path, file_entry, listed_sizes, unwritable, verify_files, write_atomic
from cpt_ray.edges.store import address, fetched, fresh, is_mirrored, mirror_of, push, remove
from cpt_ray.edges.store import exists as stored_file_exists
from cpt_ray.edges.store.addresses import is_remote
from cpt_ray.edges.store.lines import is_segment
from cpt_ray.edges.store.made import made_files
from cpt_ray.edges.store.transfer import listing, matches, refresh
from cpt_ray.errors import ArtifactError, ConfigError
from cpt_ray.records import Artifact, Made, Record
from cpt_ray.records.base import LISTED
from cpt_ray.study.stages.stage import Node, Planned, Stage

RecordT = TypeVar("RecordT", bound=Record)
WorkT = TypeVar("WorkT")

_VERSIONED = ("cpt-ray", "torch", "transformers", "deepspeed", "ray", "tokenizers", "lm-eval", "pyarrow")
STUDY_FILE = "study.yaml"
"""The configuration of the study, in its root."""
FORMAT = 1
"""Of what a root holds. Raise it when an older cpt-ray could not read what is written: it then says so."""
_HEADER = re.compile(r"# written by cpt-ray (\S+), format (\d+)")
_JOB_FOLDER = ("runtime_resources", "working_dir_files")


def fingerprint(value: object) -> str:
    """The sha256 of canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def locate(
    root: Path, stage: Stage[WorkT, RecordT], planned: Planned[WorkT], found: dict[Path, Artifact] | None = None
) -> Node[WorkT, RecordT]:
    """Derive an artifact's fingerprint and folder from its inputs and settings.

    Args:
        root: The study's root.
        stage: The stage.
        planned: The artifact.
        found: The artifacts that a command has found complete, which its nodes share; see `find`.
    """
    inputs = {name: found if isinstance(found, str) else found.fingerprint for name, found in planned.inputs.items()}
    name = fingerprint({"stage": stage.name, "format": stage.version, "inputs": inputs, "settings": dict(planned.settings)})
    return Node(
        stage=stage,
        name=planned.name,
        folder=root / stage.name / f"{planned.stem or planned.name}-{name[:8]}",
        fingerprint=name,
        inputs=dict(planned.inputs),
        settings=dict(planned.settings),
        work=planned.work,
        found=found,
    )


def find(node: Node[Any, Any]) -> Artifact | None:
    """The artifact of a node if it is complete, else None.

    Its folder is listed once, and once a command: what `Node.found` has is not looked at again.

    Raises:
        ArtifactError: If the folder holds another fingerprint, or a file is missing or of another size.
    """
    if (known := _remembered(node)) is not None:
        return known
    if is_mirrored(node.folder):
        stored = listing(node.folder)
        if Artifact.FILE not in stored:
            return None
        refresh(node.folder, {name: one for name, one in stored.items() if _is_read_here(name, node.stage)})
        sizes = {name: one.size_bytes for name, one in stored.items()}
    elif exists(node):
        sizes = listed_sizes(node.folder)
    else:
        return None
    artifact = read(node)
    # Sizes only: hashing every file at every start would cost as much as reading the study; `verify` does that.
    verify_files(node.folder, artifact.files, deep=False, sizes=sizes)
    return _remember(node, artifact)


def _remembered(node: Node[Any, Any]) -> Artifact | None:
    known = None if node.found is None else node.found.get(node.folder)
    return known if known is not None and known.fingerprint == node.fingerprint else None


def _remember(node: Node[Any, Any], artifact: Artifact) -> Artifact:
    if node.found is not None:
        node.found[node.folder] = artifact
    return artifact


def _is_read_here(name: str, stage: Stage[Any, Any]) -> bool:
    return name in (Artifact.FILE, Artifact.COLUMNS) or (
        not is_segment(name) and any(matches(name, one) for one in stage.driver_files)
    )


def exists(node: Node[Any, Any]) -> bool:
    """Whether the artifact was committed; its files are not looked at."""
    return _remembered(node) is not None or stored_file_exists(node.folder / Artifact.FILE)


def is_whole(node: Node[Any, Any]) -> bool:
    """Whether the artifact was committed and lacks nothing: whether its verb has nothing to build."""
    return exists(node) and not (node.stage.lacks is not None and node.stage.lacks(node))


def withdraw(node: Node[Any, Any]) -> None:
    """Make an artifact that is about to be built again incomplete: its files may contradict its record from now on."""
    remove(node.folder / Artifact.FILE)
    (node.folder / Artifact.FILE).unlink(missing_ok=True)
    if node.found is not None:
        node.found.pop(node.folder, None)


def read(node: Node[Any, Any]) -> Artifact:
    """The record of a committed artifact; its files are not looked at.

    Raises:
        ArtifactError: If it cannot be read, or has another fingerprint.
    """
    path, place = fetched(node.folder / Artifact.FILE), address(node.folder)
    try:
        artifact = Artifact.load(path, fetched)
    except ValueError as error:
        raise ArtifactError(f"{address(path)}: not an artifact record: {error}", fix=f"delete {place}") from None
    if artifact.fingerprint != node.fingerprint:
        raise ArtifactError(
            f"{place}: holds fingerprint {artifact.fingerprint[:12]}, its name and inputs say {node.fingerprint[:12]}",
            fix=f"delete {place} and re-run the same command",
        )
    return artifact


def require(node: Node[Any, Any]) -> Path:
    """The folder of an artifact that must be complete.

    Raises:
        ConfigError: If it was not built yet; names the verb that builds it.
        ArtifactError: If it contradicts its record.
    """
    if find(node) is None:
        raise ConfigError(
            f"{node.label} has not been built yet under {address(node.folder.parents[1])}",
            fix=f"run cpt-ray {node.stage.verb} first, with the same study file and overrides",
        )
    return node.folder


def load(node: Node[Any, RecordT]) -> RecordT:
    """The record of a complete artifact.

    Raises:
        ConfigError: If it was not built yet.
        ArtifactError: If it contradicts its record.
        TypeError: If its stage has no record.
    """
    if node.stage.record is None:
        raise TypeError(f"stage {node.stage.name} has no record")
    folder = require(node)
    try:
        return node.stage.record.of(folder)
    except ValueError as error:
        detail = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{address(folder / node.stage.record.FILE)}: not what the stage {node.stage.name} writes: {detail}",
            fix=f"delete {address(folder)} and re-run the same command",
        ) from None


def made(node: Node[Any, RecordT]) -> Made[RecordT]:
    """A complete artifact as input of another stage; see `load`."""
    return Made(node.folder, load(node))


def commit(node: Node[Any, Any], *, started: float) -> Artifact:
    """Write the artifact's record, last: this makes the artifact complete.

    Args:
        node: The artifact; its stage says which files belong to it.
        started: `time.perf_counter()` when building it began.
    """
    artifact = Artifact(
        stage=node.stage.name,
        name=node.name,
        fingerprint=node.fingerprint,
        inputs=node.input_fingerprints,
        settings=dict(node.settings),
        files=made_files(node.folder, node.stage.files),
        wall_s=time.perf_counter() - started,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(*_VERSIONED),
    )
    head = artifact
    if len(artifact.files) > LISTED:
        columns = node.folder / Artifact.COLUMNS
        with atomic_path(columns) as temporary:
            artifact.files.write(temporary)
        head = artifact.head(file_entry(node.folder, columns))
    write_atomic(node.folder / Artifact.FILE, head.to_json())
    # In a bucket, what other nodes wrote of it is not here: the next look fetches what a driver reads.
    return artifact if is_mirrored(node.folder) else _remember(node, artifact)


def resolve_root(root: str, scratch: str | None = None) -> Path:
    """The absolute path of a study's root on this node.

    Args:
        root: As the study file has it.
        scratch: Folder for the mirror of a root in a bucket.

    Raises:
        ConfigError: If it lies where Ray unpacks a job's working directory.
        ArtifactError: If there can be no mirror.
    """
    if is_remote(root):
        return mirror_of(root, scratch)
    path = Path(root).resolve()
    refuse_job_folder(path, f"study.root={root}", fix="set study.root to an absolute path that every node sees")
    return path


def refuse_job_folder(path: Path, key: str, *, fix: str) -> None:
    """Reject a path in Ray's cache of working directories, where relative paths lead under `ray job submit`.

    Raises:
        ConfigError: Naming key and path.
    """
    if _JOB_FOLDER in itertools.pairwise(path.parts):
        raise ConfigError(f"{key}: {path} is in Ray's copy of the job's working directory, which Ray deletes later", fix=fix)


def require_writable(root: Path) -> None:
    """Reject a root that cannot be written, before any work is done.

    Raises:
        ArtifactError: With the reason of the system or of the store.
    """
    probe = root / ".writable"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        push(probe)
        remove(probe)
        probe.unlink()
    except OSError as error:
        raise unwritable(root, error) from error


def study_text(config: StudyConfig) -> str:
    """What `STUDY_FILE` holds: a line that says who wrote it, and the resolved configuration without secrets."""
    return f"# written by cpt-ray {__version__}, format {FORMAT}\n{dump_study(config, redact)}"


def require_known_format(root: Path) -> None:
    """Reject a root that a newer cpt-ray has written, of which this one would misread or rebuild everything.

    Raises:
        ConfigError: Naming both versions.
    """
    path = fresh(root / STUDY_FILE)
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        found = _HEADER.match(stream.readline())
    if found is not None and int(found[2]) > FORMAT:
        raise ConfigError(
            f"{address(root)} was written by cpt-ray {found[1]} in format {found[2]}, and this is {__version__}, which reads "
            f"formats up to {FORMAT}",
            fix=f"install cpt-ray {found[1]} or newer, or set study.root to another folder",
        )


def require_own(root: Path, name: str) -> None:
    """Reject a root that holds another study, whose report and configuration this one would replace.

    Raises:
        ConfigError: Naming both.
    """
    try:
        written = yaml.safe_load(fresh(root / STUDY_FILE).read_text(encoding="utf-8"))
        other = written["study"]["name"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return  # nothing there, or nothing that can be read: it is about to be written
    if other != name:
        raise ConfigError(
            f"study.root {address(root)} holds the study {other!r}, and this is {name!r}: one would replace the other's report",
            fix=f"set study.root to a folder of its own, or study.name to {other}",
        )
