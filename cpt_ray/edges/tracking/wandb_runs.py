"""Curves for Weights & Biases: a run per run of the study, in a project named after `tracking.experiment`.

In: all points of a run that a committed checkpoint covers; what was sent cannot be taken back. Guarantee: a note below the root
says how many rows a run has, so that resuming sends each once; rows that contradict it are another run under the same name.
Nobody is asked for anything: without a key of the service runs are written to files, which `wandb sync` sends later.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt_ray.edges import store
from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.tracking.content import sha
from cpt_ray.edges.tracking.curves import CurvePoint, by_tokens
from cpt_ray.records import Record

FOLDER = "wandb"
_KEY_FILE = ".netrc"


class SentRows(Record):
    """What a run of the service has: how many rows, and their fingerprint."""

    id: str
    rows: int
    content_sha256: str


class WandbRuns:
    """The runs of a study; a `CurvePlace`.

    Args:
        root: The study's root, below which the package keeps its files.
        project: `tracking.experiment`.
        study: Name of the study, which groups its runs.

    Raises:
        ConfigError: If the package is not installed.
    """

    takes_back = False

    def __init__(self, root: Path, project: str, study: str) -> None:
        with needed_for("tracking.wandb"):
            import wandb

        self._wandb: Any = wandb
        self._root, self._project, self._study = root, project, study
        self._open: dict[str, Any] = {}

    @property
    def offline(self) -> bool:
        """Whether runs are written to files only."""
        chosen = os.environ.get("WANDB_MODE")
        return chosen == "offline" if chosen is not None else not _has_key()

    def write(self, run: str, key: str, points: Sequence[CurvePoint]) -> None:
        """Send what is missing of a run's points, a row for each number of tokens."""
        rows = list(by_tokens(points))
        path = self._root / FOLDER / "sent" / f"{run}.json"
        sent = _sent(path)
        if sent is None or sha(rows[: sent.rows]) != sent.content_sha256 or sent.rows > len(rows):
            self._finish(run, failed=False)
            generation = "" if sent is None else sent.id
            sent = SentRows(id=hashlib.sha256(f"{key} {generation}".encode()).hexdigest()[:16], rows=0, content_sha256=sha([]))
        if sent.rows == len(rows):
            return
        if run not in self._open:
            self._open[run] = self._begin(run, sent.id)
        for tokens, values in rows[sent.rows :]:
            self._open[run].log(values, step=tokens)
        write_atomic(path, SentRows(id=sent.id, rows=len(rows), content_sha256=sha(rows)).to_json())

    def close(self, *, failed: bool) -> None:
        """End the runs that this command has sent to."""
        for run in list(self._open):
            self._finish(run, failed=failed)

    def _begin(self, run: str, run_id: str) -> Any:
        (self._root / FOLDER).mkdir(parents=True, exist_ok=True)
        # Of this machine nothing is sent but the points: no output, code, packages' use or system metrics.
        settings = self._wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True, x_save_requirements=False
        )
        return self._wandb.init(
            project=self._project,
            group=self._study,
            name=run,
            id=run_id,
            resume="allow",
            reinit="create_new",  # runs that train side by side are open together
            mode="offline" if self.offline else None,
            dir=str(self._root),
            settings=settings,
        )

    def _finish(self, run: str, *, failed: bool) -> None:
        if (found := self._open.pop(run, None)) is not None:
            found.finish(exit_code=1 if failed else 0)


def _sent(path: Path) -> SentRows | None:
    with contextlib.suppress(OSError, ValueError):
        return SentRows.load(store.fetched(path))
    return None


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    with contextlib.suppress(OSError):
        return "wandb.ai" in (Path.home() / _KEY_FILE).read_text(encoding="utf-8")
    return False
