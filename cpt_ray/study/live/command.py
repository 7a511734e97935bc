"""What a command says of itself in the study's root, so that another shell can tell how far it is, and how it ended.

`planned.json` once, when it begins; `command.json` then, with its last line of progress about every five seconds, and at its
end. Between them the lease is the heartbeat. Guarantee: nothing here stops a command; a note that cannot be written is logged.
"""

from __future__ import annotations

import logging
import os
import shlex
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cpt_ray.edges.lease import FILE as LEASE_FILE
from cpt_ray.edges.lease import may_commit
from cpt_ray.edges.redaction import printable, printable_arguments
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import CptRayError, TrainingStopped, problem_of
from cpt_ray.records import CommandRecord, PlannedArtifact, PlannedStudy
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.grid import Grid
from cpt_ray.study.stages.stage import Console, Node
from cpt_ray.study.stages.train import TRAIN

logger = logging.getLogger(__name__)
EVERY_S = 5.0
_PROGRAMS = ("cpt-ray", "main.py")


class CommandNote:
    """The console of a command, which also notes in the root what it is told.

    Args:
        root: The study's root.
        console: Where everything is shown.
    """

    def __init__(self, root: Path, console: Console) -> None:
        self._root, self._console = root, console
        self._record: CommandRecord | None = None
        self._written = 0.0
        self._lock = threading.Lock()
        """Runs that train and models that are scored report from several threads."""

    def say(self, text: str) -> None:
        """Print a result."""
        self._console.say(text)

    def step(self, text: str) -> None:
        """Print what was done."""
        self._console.step(text)
        self._note(doing=text)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._console.warn(text)

    def progress(self, text: str) -> None:
        """Show a line that the next one replaces."""
        self._console.progress(text)
        self._note(doing=text)

    def begin(self, attempt: int, planned: PlannedStudy) -> None:
        """Write what the command is and what it plans; the lease is held."""
        self._record = CommandRecord(
            attempt=attempt,
            command=_command(sys.argv),
            folder=os.getcwd(),
            host=socket.gethostname(),
            pid=os.getpid(),
            started=time.time(),
        )
        self._write(self._root / PlannedStudy.FILE, planned)
        self._note(now=True)

    def reach(self, verb: str) -> None:
        """Note that the command has come to a verb's work."""
        self._note(now=True, verb=verb)

    def end(self, error: BaseException | None) -> None:
        """Note how the command ends; the lease is still held."""
        outcome = "done" if error is None else "failed" if _is_failure(error) else "interrupted"
        said = "" if error is None or outcome == "interrupted" else printable(problem_of(error))
        fix = printable(error.fix) if isinstance(error, CptRayError) else ""
        self._note(now=True, ended=time.time(), outcome=outcome, error=said, fix=fix)

    def _note(self, *, now: bool = False, **changes: Any) -> None:
        with self._lock:
            if self._record is None:  # a verb that only reads
                return
            if "doing" in changes:
                changes |= {"doing": printable(changes["doing"]).strip(), "doing_since": time.time()}
            self._record = self._record.model_copy(update=changes)
            if now or time.monotonic() - self._written >= EVERY_S:
                self._written = time.monotonic()
                self._write(self._root / CommandRecord.FILE, self._record)

    def _write(self, path: Path, record: CommandRecord | PlannedStudy) -> None:
        try:
            # A driver that was taken for dead must not speak for the one that took over.
            if self._record is not None and may_commit(self._root / LEASE_FILE, self._record.attempt):
                write_atomic(path, record.to_json())
        except CptRayError as error:  # a full disk or a store that is away ends the study where it matters
            logger.info("%s was not written: %s", path.name, error.problem)


def planned_study(graph: StudyGraph, grid: Grid) -> PlannedStudy:
    """What the study needs, runs and scores under their names in the study."""
    members = (*grid.trained(), *grid.merged(), *grid.scored())
    names = {member.node.folder: member.name for member in members}
    return PlannedStudy(
        study=graph.config.study.name,
        artifacts=tuple(_planned(node, names.get(node.folder, node.name), graph.root) for node in graph.all()),
    )


def _planned(node: Node[Any, Any], name: str, root: Path) -> PlannedArtifact:
    spec = node.work.spec if node.stage is TRAIN else None
    return PlannedArtifact(
        stage=node.stage.name,
        verb=node.stage.verb,
        name=name,
        folder=node.folder.relative_to(root).as_posix(),
        start_tokens=spec.start_tokens if spec else None,
        stop_tokens=spec.stop_tokens if spec else None,
    )


def _is_failure(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, TrainingStopped)


def _command(arguments: list[str]) -> str:
    program, *rest = arguments
    name = "cpt-ray" if Path(program).name in _PROGRAMS else program
    return printable_arguments(shlex.join([name, *rest]))
