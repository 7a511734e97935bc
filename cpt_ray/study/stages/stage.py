"""What a stage is: a value that says which artifacts it makes of a study, from what, and how.

One module of this room per stage; `study.graph` asks each for its artifacts before anything runs,
`study.study` builds those that are missing, `verify`, `--dry-run` and the command line list them.
`tests/study/stages/test_toy_stage.py` adds one.

Guarantee: whatever shapes a result is in the fingerprint of its node, by way of `inputs` and `settings`; a build gets what it
needs in the node's `work`, resolved from the study file when the graph was built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import CptRayError
from cpt_ray.records import Record, StepMetrics

WorkT = TypeVar("WorkT")
RecordT = TypeVar("RecordT", bound=Record)
Verb = Literal["prepare", "train", "evaluate"]


class Console(Protocol):
    """Where a study says what it does."""

    def say(self, text: str) -> None:
        """Print a result."""

    def step(self, text: str) -> None:
        """Print what was done."""

    def warn(self, text: str) -> None:
        """Print a warning."""

    def progress(self, text: str) -> None:
        """Show a line that the next one replaces."""


class Graph(Protocol):
    """What `Stage.plan` sees: the study file, and the artifacts of earlier stages."""

    config: StudyConfig
    config_path: Path

    def of(self, stage: Stage[WorkT, RecordT]) -> list[Node[WorkT, RecordT]]:
        """All artifacts of a stage, in their order."""

    def one(self, stage: Stage[WorkT, RecordT], name: str | None = None) -> Node[WorkT, RecordT]:
        """The artifact of that name, or the only one."""


class Session(Protocol):
    """What `Stage.build` may use; `study.session` is the real one."""

    root: Path
    runtime: RuntimeConfig
    console: Console
    attempt: int

    @property
    def lease_path(self) -> Path:
        """The lease that a commit is checked against."""

    def need_ray(self) -> None:
        """Start or join Ray, once. Import rooms that import Ray after it: Ray reads part of its environment when imported."""

    def building(self, node: Node[Any, Any]) -> AbstractContextManager[None]:
        """Around the build of one artifact: its folder exists, and it is committed if nothing was raised."""

    def live_mirror(self, node: Node[Any, Any]) -> Callable[[tuple[StepMetrics, ...]], None]:
        """What is told all steps of a run so far, about once a second while it trains, and mirrors them into MLflow."""

    def commit(self, node: Node[Any, Any], *, started: float) -> None:
        """Commit an artifact that was built since `started`, of `time.perf_counter()`."""


class Checked(NamedTuple):
    """One thing that `cpt-ray verify` checked: its name, how much of it there was, and what is wrong with it."""

    name: str
    amount: str
    problems: tuple[CptRayError, ...]
    is_input: bool = False
    """Whether it is an input of the study rather than an artifact."""


@dataclass(frozen=True)
class Planned(Generic[WorkT]):
    """An artifact that a stage wants of a study."""

    name: str
    """Unique within the stage."""
    inputs: Mapping[str, Node[Any, Any] | str]
    """Artifacts of earlier stages, and fingerprints of what is read from outside the study."""
    settings: Mapping[str, object]
    """Every setting that shapes the result, as plain values; nothing else, so that no other change rebuilds it."""
    work: WorkT
    """What `Stage.build` needs, resolved."""


@dataclass(frozen=True)
class Stage(Generic[WorkT, RecordT]):
    """A kind of artifact: how a study's artifacts of this kind are planned, built, read and verified."""

    name: str
    """Folder below the study's root, and what messages call it."""
    version: int
    """Of the format. Raise it when the output changes for the same settings: old folders are then left alone and ignored."""
    verb: Verb
    """The verb of the command line that builds it."""
    plan: Callable[[Graph], Iterable[Planned[WorkT]]]
    """The artifacts that a study wants; the graph holds those of earlier stages."""
    build: Callable[[Sequence[Node[WorkT, RecordT]], Session], None]
    """Builds artifacts that are missing, and resumes what an earlier attempt left in their folders. See `one_by_one`."""
    record: type[RecordT] | None
    """What the artifact says of itself, in the file `record.FILE`; None if its files speak for themselves."""
    files: tuple[str, ...]
    """Globs of the files that belong to the artifact, relative to its folder; anything else there is scratch."""
    early_check: Callable[[Node[WorkT, RecordT]], bool] | None = None
    """Refuses an artifact that cannot be built, before earlier stages spend hours on its inputs. Called before each stage until
    it returns True; False means that what it looks at has not been built yet."""
    reuse_check: Callable[[Node[WorkT, RecordT]], None] | None = None
    """Called before an artifact is reused; raises if it no longer is what the study asks for."""
    verify: Callable[[Node[WorkT, RecordT]], Iterable[Checked]] | None = None
    """What `cpt-ray verify` checks beyond the hashes of the artifact's files."""


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

    @property
    def label(self) -> str:
        """`stage/name-fingerprint8`, as messages call it."""
        return f"{self.stage.name}/{self.folder.name}"

    def input(self, name: str) -> Node[Any, Any]:
        """The artifact that is the input of that name.

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
    """Make a `Stage.build` of a function that builds one artifact: its folder exists, and it is committed afterwards."""

    def build_all(nodes: Sequence[Node[WorkT, RecordT]], session: Session) -> None:
        for node in nodes:
            with session.building(node):
                build(node, session)

    return build_all
