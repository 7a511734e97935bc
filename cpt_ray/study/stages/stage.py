"""A stage: a value that declares which artifacts a study needs, from which inputs, and how to build them.

One module of this package per stage. `study.graph` collects the artifacts of each before anything runs, `study.study` builds
those that are missing, and `verify`, `--dry-run` and the command line list them.
`tests/study/stages/test_toy_stage.py` adds one.

Guarantee: everything that shapes a result is in its node's fingerprint, through `inputs` and `settings`; a build gets what it
needs from the node's `work`, resolved when the graph was built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.storage import FileHashes
from cpt_ray.errors import CptRayError
from cpt_ray.records import Artifact, Record, RunSpec, StepMetrics

WorkT = TypeVar("WorkT")
RecordT = TypeVar("RecordT", bound=Record)
ValueT = TypeVar("ValueT")
InputT = TypeVar("InputT", bound="str | None")
Verb = Literal["prepare", "train", "evaluate"]


class Console(Protocol):
    """Where a study reports what it does."""

    def say(self, text: str) -> None:
        """Print a result."""

    def step(self, text: str) -> None:
        """Print what was done."""

    def warn(self, text: str) -> None:
        """Print a warning."""

    def progress(self, text: str) -> None:
        """Show a line that the next one replaces."""


class Graph(Protocol):
    """What `Stage.plan` sees: the study file of a cell, and the cell's artifacts of earlier stages."""

    config: StudyConfig
    config_path: Path

    @property
    def hashes(self) -> FileHashes:
        """Hashes of the files of bases."""

    def once(self, key: str, look_up: Callable[[], ValueT]) -> ValueT:
        """What `look_up` returns, looked up once for all cells of a grid; `key` says what it is."""

    def input(self, key: str, look_up: Callable[[], InputT]) -> InputT:
        """The fingerprint of files outside the root, or their content: looked up once, or as the root says that it was.

        Args:
            key: A word, and the input as the study file has it; see `study.inputs.known_name`.
            look_up: Reads the files.
        """

    def of(self, stage: Stage[WorkT, RecordT]) -> list[Node[WorkT, RecordT]]:
        """All artifacts of a stage, in their order."""

    def one(self, stage: Stage[WorkT, RecordT], name: str | None = None) -> Node[WorkT, RecordT]:
        """The artifact of that name, or the only one."""


ReadSteps: TypeAlias = Callable[[], Sequence[StepMetrics]]
"""Reads all steps of a run so far."""


class LiveRun(NamedTuple):
    """A run that is followed while it trains."""

    spec: RunSpec
    """Its plan under its name in the study, which in a grid is not its name in its cell."""
    mirror: Callable[[ReadSteps], None]
    """Mirrors its steps into MLflow and curves; called about once a second, with what reads them when that is due."""


class Session(Protocol):
    """What `Stage.build` may use; `study.live.session` is the real one."""

    root: Path
    runtime: RuntimeConfig
    console: Console
    attempt: int

    @property
    def lease_path(self) -> Path:
        """The lease that a commit is checked against."""

    def need_ray(self) -> None:
        """Start or join Ray, once. Import rooms that import Ray after it: Ray reads part of its environment when imported."""

    def unit_pool(self) -> Executor | None:
        """The processes that prepare units; None for those of Ray, which is then there."""

    def building(self, node: Node[Any, Any]) -> AbstractContextManager[None]:
        """Wrap the build of one artifact: its folder exists, and it is committed if nothing was raised."""

    def live_run(self, node: Node[Any, Any]) -> LiveRun:
        """What is needed to follow a run while it trains."""

    def commit(self, node: Node[Any, Any], *, started: float) -> None:
        """Commit an artifact that was built since `started`, of `time.perf_counter()`."""


class Checked(NamedTuple):
    """One item that `cpt-ray verify` checked: its name, its size, and its problems."""

    name: str
    amount: str
    problems: tuple[CptRayError, ...]
    is_input: bool = False
    """Whether it is an input of the study rather than an artifact."""


@dataclass(frozen=True)
class Planned(Generic[WorkT]):
    """An artifact that a study needs from a stage."""

    name: str
    """Unique within the stage."""
    inputs: Mapping[str, Node[Any, Any] | str]
    """Artifacts of earlier stages, and fingerprints of external inputs."""
    settings: Mapping[str, object]
    """Every setting that shapes the result, as plain values, and nothing else: any other change must not rebuild it."""
    work: WorkT
    """Resolved input of `Stage.build`."""
    stem: str | None = None
    """Begins the name of its folder, `name` if none is given: artifacts with equal inputs and settings share one through it."""


@dataclass(frozen=True)
class Stage(Generic[WorkT, RecordT]):
    """A kind of artifact: how a study's artifacts of this kind are planned, built, read and verified."""

    name: str
    """Folder below the study's root, and the name used in messages."""
    version: int
    """Of the format. Raise it when the output changes for the same settings: old folders are then left alone and ignored."""
    verb: Verb
    """The verb of the command line that builds it."""
    plan: Callable[[Graph], Iterable[Planned[WorkT]]]
    """The artifacts that a study needs; the graph holds those of earlier stages."""
    build: Callable[[Sequence[Node[WorkT, RecordT]], Session], None]
    """Builds missing artifacts, resuming from whatever an earlier attempt left in their folders. See `one_by_one`."""
    record: type[RecordT] | None
    """The artifact's metadata, in the file `record.FILE`; None if it has none."""
    files: tuple[str, ...]
    """Globs of the files that belong to the artifact, relative to its folder; anything else there is scratch."""
    driver_files: tuple[str, ...] = ("*.json", "*.jsonl")
    """Globs of the files that a driver or a report reads; of an artifact in a bucket, the rest is fetched by who needs it."""
    early_check: Callable[[Node[WorkT, RecordT]], bool] | None = None
    """Rejects an artifact that cannot be built, before earlier stages spend hours on its inputs. Called before each stage until
    it returns True; False means that the inputs it needs do not exist yet."""
    reuse_check: Callable[[Node[WorkT, RecordT]], None] | None = None
    """Called before an artifact is reused; raises if it no longer matches the study."""
    lacks: Callable[[Node[WorkT, RecordT]], bool] | None = None
    """Whether a complete artifact lacks something that building it again may give: it is reported as it is, and the verb that
    builds it tries again."""
    verify: Callable[[Node[WorkT, RecordT]], Iterable[Checked]] | None = None
    """Checks of `cpt-ray verify` beyond the hashes of the artifact's files."""


@dataclass(frozen=True, eq=False)
class Node(Generic[WorkT, RecordT]):
    """An artifact of a study, built or not: a node of the study's graph."""

    stage: Stage[WorkT, RecordT]
    name: str
    folder: Path
    """`<root>/<stage>/<name>-<fingerprint8>`."""
    fingerprint: str
    """Of the stage's version, the settings and the inputs' fingerprints."""
    inputs: Mapping[str, Node[Any, Any] | str]
    settings: Mapping[str, object]
    work: WorkT = field(repr=False)
    found: dict[Path, Artifact] | None = field(default=None, repr=False)
    """What this command has found complete, by folder, so that nothing is looked at twice; None looks every time."""

    @property
    def stem(self) -> str:
        """The folder's name without the fingerprint: that of the first artifact that has the folder."""
        return self.folder.name.rpartition("-")[0]

    @property
    def label(self) -> str:
        """`stage/name-fingerprint8`, the name used in messages."""
        return f"{self.stage.name}/{self.folder.name}"

    def input(self, name: str) -> Node[Any, Any]:
        """The input artifact of that name.

        Raises:
            TypeError: If the input is not an artifact of the study.
        """
        found = self.inputs[name]
        if isinstance(found, str):
            raise TypeError(f"input {name!r} of {self.label} is read from outside the study")
        return found

    @property
    def input_fingerprints(self) -> dict[str, str]:
        """Input name to fingerprint."""
        return {name: found if isinstance(found, str) else found.fingerprint for name, found in self.inputs.items()}


def one_by_one(
    build: Callable[[Node[WorkT, RecordT], Session], None],
) -> Callable[[Sequence[Node[WorkT, RecordT]], Session], None]:
    """Turn a function that builds one artifact into a `Stage.build`: its folder exists, and it is committed afterwards."""

    def build_all(nodes: Sequence[Node[WorkT, RecordT]], session: Session) -> None:
        for node in nodes:
            with session.building(node):
                build(node, session)

    return build_all
