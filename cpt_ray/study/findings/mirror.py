"""Mirror a study's records into MLflow: live while a run trains, whole when the study is done.

MLflow shows the records and is never read back. A step is mirrored once a committed checkpoint covers it, because
a logged metric cannot be withdrawn and a step after the last checkpoint may be repeated. A tracking server that does not
respond is reported once and does not stop training; `cpt-ray report` mirrors everything later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from cpt_ray.config.sections.runtime import TrackingConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import install_command, is_installed, needed_for
from cpt_ray.edges.storage import hash_file
from cpt_ray.edges.store import address
from cpt_ray.edges.tracking.client import Status, errors
from cpt_ray.edges.tracking.metrics import Watched, event_metrics, exam_metrics, held_out_metrics, memory_metrics
from cpt_ray.edges.tracking.mirrored import database_of, default_uri, is_mirrored, note_mirrored
from cpt_ray.errors import CptRayError
from cpt_ray.records import EvalRecord, Fit, HeldOutPoint, MemoryPoint, Point, RunRecord, RunSpec, StepMetrics
from cpt_ray.report.current import figures_of, twins_of
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.grid import Grid
from cpt_ray.study.stages.stage import Console, ReadSteps
from cpt_ray.study.store import fingerprint
from cpt_ray.train.checkpoint import committed
from cpt_ray.train.monitor.metrics import HELD_OUT, MEMORY, read_events, read_lineage, read_metrics

if TYPE_CHECKING:
    from cpt_ray.edges.tracking.store import Tracking
    from cpt_ray.edges.tracking.watcher import Watcher

_EVERY_S = 10.0
_REST = 20.0
"""A pause is at least so many times as long as what it follows."""


@dataclass(frozen=True)
class MirrorTarget:
    """Where a study is mirrored, and under which identity."""

    uri: str
    experiment: str
    study: str
    identity: str
    """Of the study in MLflow: a changed setting is another study, whose runs are listed next to the old ones."""
    config: dict[str, Any]
    params: dict[str, dict[str, Any]]
    """Of every trained run, by its name."""
    axes: dict[str, dict[str, str]]
    """The values of the study's axes, likewise."""
    control_arms: frozenset[str]

    @classmethod
    def of(cls, graph: StudyGraph, grid: Grid) -> Self:
        """Resolve `tracking.uri` (sqlite in the root where it is not set) and the values that MLflow is given."""
        config = graph.config
        prints = fingerprint([node.fingerprint for node in graph.all()])
        return cls(
            uri=config.tracking.uri or default_uri(graph.root),
            experiment=config.tracking.experiment,
            study=config.study.name,
            identity=f"{address(graph.root)} {prints[:8]}",
            config=config.model_dump(mode="json", exclude={"runtime", "tracking"}),
            params={one.name: _params(one.cell.config) for one in grid.trained()},
            axes={one.name: dict(one.names.axes) for one in grid.trained()},
            control_arms=frozenset(name for name, arm in grid.arms().items() if arm.role == "control"),
        )


class Mirror:
    """A study in MLflow while one command works on it: opened when there is something to say, closed with the command.

    Args:
        target: The destination.
        console: Where to report that MLflow does not respond.
    """

    def __init__(self, target: MirrorTarget, console: Console) -> None:
        self.target, self._console = target, console
        self._tracking: Tracking | None = None
        self._watcher: Watcher | None = None
        self._parent: str | None = None
        self._lost = False
        self._lock = threading.Lock()

    def open(self, points: Sequence[Point] | None = None, fits: Sequence[Fit] = ()) -> tuple[Tracking, str]:
        """The tracking store, and the id of the study's parent run in it; runs that train side by side share both."""
        with needed_for("tracking.uri"):
            from cpt_ray.edges.tracking.store import Tracking
            from cpt_ray.edges.tracking.watcher import Watcher

        with self._lock:
            target = self.target
            if self._tracking is None:
                self._tracking = Tracking(target.uri, target.experiment)
                self._watcher = Watcher()
            if self._parent is None or points is not None:
                self._parent = self._tracking.mirror_study(
                    target.study,
                    target.identity,
                    config=target.config,
                    points=points,
                    control_arms=target.control_arms,
                    fits=fits,
                )
                if self._watcher is not None:
                    self._watcher.watch(target.uri, self._tracking.experiment, self._parent)
            self._lost = False
            return self._tracking, self._parent

    def lose(self) -> None:
        """Note that MLflow does not respond: its client tries for minutes, which the end of a command must not wait for."""
        self._lost = True

    def close(self, error: BaseException | None = None) -> None:
        """End the runs that are still RUNNING: with the command, by its error, or by its interruption."""
        if self._lost:
            return  # the watcher tries once this process is gone
        status: Status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            if self._tracking is not None and self._parent is not None:
                self._tracking.end(self._parent, status)
        except Exception as failed:  # whatever MLflow raises must not hide the command's own error
            self._console.say(f"  MLflow at {self.target.uri} was not told the end ({type(failed).__name__})")
            return
        if self._watcher is not None:
            self._watcher.close()


def _params(config: StudyConfig) -> dict[str, Any]:
    return {f"train.{key}": value for key, value in config.train.model_dump(mode="json", exclude={"budgets"}).items()}


def why_not_mirrored(tracking: TrackingConfig) -> str | None:
    """Why a study is not mirrored into MLflow, if it is not.

    A tracking URI in the study file asks for MLflow: then its absence is an error, which `preflight` raises.
    """
    if not tracking.enabled:
        return "off (tracking.enabled: false)"
    if tracking.uri is None and not is_installed("mlflow"):
        return f"not installed, so nothing is mirrored; the report is complete without it ({install_command('mlflow')})"
    if tracking.uri is None and not is_installed("sqlalchemy"):
        whole = install_command("mlflow")
        return f"mlflow-skinny writes to a tracking server only, so nothing is mirrored; set tracking.uri, or {whole}"
    return None


class LiveMirror:
    """Mirrors one run while it trains; called from the thread that watches it.

    Args:
        mirror: The study in MLflow.
        spec: The run.
        folder: The run's folder.
        console: Where to report, once, that MLflow does not respond.
    """

    def __init__(self, mirror: Mirror, spec: RunSpec, folder: Path, console: Console) -> None:
        self._mirror, self._spec, self._folder, self._console = mirror, spec, folder, console
        self._due = time.monotonic() + _EVERY_S
        self._given_up = False

    def __call__(self, steps: ReadSteps) -> None:
        """Mirror the steps that a committed checkpoint covers, at most every ten seconds."""
        if self._given_up or (began := time.monotonic()) < self._due:
            return
        found = committed.newest(self._folder)
        covered = [step for step in steps() if step.step <= found[1].progress.step] if found is not None else []
        if covered:
            self._mirror_steps(covered)
            # The thread that calls this also reads heartbeats, so all steps must not be read often, nor a slow server be asked.
            self._due = time.monotonic() + max(_EVERY_S, _REST * (time.monotonic() - began))

    def _mirror_steps(self, covered: Sequence[StepMetrics]) -> None:
        try:
            tracking, parent = self._mirror.open()
            tracking.mirror_run(
                parent,
                self._spec,
                metrics=covered,
                watched=watched_metrics(self._folder, until=covered[-1].step),
                params=self._mirror.target.params[self._spec.name],
                axes=self._mirror.target.axes[self._spec.name],
            )
        except Exception as error:  # whatever MLflow raises must not stop training
            self._given_up = True
            self._mirror.lose()
            self._console.say(
                f"  MLflow at {self._mirror.target.uri} does not accept metrics ({type(error).__name__}); training continues, "
                "and cpt-ray report mirrors them later"
            )


def mirror_study(mirror: Mirror, runs: Sequence[RunRecord], folders: Mapping[str, Path], found: Found, report: Path) -> None:
    """Mirror all runs, the token-scaling curve, the report and its figures, unless the database already holds exactly these.

    Args:
        mirror: The study in MLflow.
        runs: Records of bases and runs.
        folders: Run name to its folder, of those that were trained.
        found: Points and tables of the study.
        report: The HTML page.

    Raises:
        CptRayError: If MLflow cannot be reached, or its database is broken; the records are not affected.
    """
    target = mirror.target
    content = _content(target, runs, folders, found, report)
    if is_mirrored(report.parent, target.uri, content):
        return
    try:
        tracking, parent = mirror.open(found.points, found.fits)
        scores = {one.run: one for one in found.evals}
        for record in runs:
            if record.kind == "trajectory":
                continue  # part of its parent; its scores are in the study's curves
            folder = folders.get(record.run)
            metrics = read_metrics(folder, rows=False) if folder else ()
            watched = watched_metrics(folder) if folder else []
            # Last: a study that is scored later than it was trained appends them.
            watched += exam_metrics(scores[record.run]) if record.run in scores else []
            merge = {"merge": record.merge.model_dump(mode="json")} if record.merge else None
            params = target.params[record.run] if folder else merge
            axes = target.axes[record.run] if folder else None
            tracking.mirror_run(parent, record, metrics=metrics, watched=watched, params=params, axes=axes)
        files = {path.relative_to(report.parent).as_posix(): path for path in (report, *twins_of(report), *figures_of(report))}
        tracking.finish_study(parent, files=files, config=target.config, texts=found.tables)
        note_mirrored(report.parent, target.uri, content)
    except errors() as error:
        database, said = database_of(target.uri), str(error).strip().splitlines() or [type(error).__name__]
        fix = "fix tracking.uri" if database is None else f"move {database} away, or fix tracking.uri,"
        raise CptRayError(
            f"MLflow at {target.uri} cannot be written: {said[0]}",
            fix=f"{fix} and run cpt-ray report again: it mirrors all of the records, and nothing was lost",
        ) from error


class Found(NamedTuple):
    """A study's findings for MLflow: points of its curves, tables by the path that they get, what was fitted, all scores."""

    points: Sequence[Point]
    tables: Mapping[str, str]
    fits: Sequence[Fit] = ()
    evals: Sequence[EvalRecord] = ()


def _content(target: MirrorTarget, runs: Sequence[RunRecord], folders: Mapping[str, Path], found: Found, report: Path) -> str:
    """A fingerprint of all that is mirrored; of the lines that runs wrote, the names and sizes of their files."""
    lines = {name: sorted((str(f), f.stat().st_size) for f in folder.glob("*/*.jsonl")) for name, folder in folders.items()}
    records = [record.to_json() for record in (*runs, *found.points, *found.fits, *found.evals)]
    told = (target.experiment, target.study, target.identity, target.config, target.params, sorted(target.control_arms))
    return fingerprint([told, records, lines, dict(found.tables), hash_file(report)])


def watched_metrics(folder: Path, *, until: int | None = None) -> list[Watched]:
    """A run's monitored values; while it trains, only held-out losses up to a step, since those are final once written."""
    points = read_lineage(folder, HELD_OUT, HeldOutPoint)
    if until is not None:
        return held_out_metrics([point for point in points if point.step <= until])
    # Held-out losses first: the rest is added when the run is done.
    memories = read_lineage(folder, MEMORY, MemoryPoint)
    return [*held_out_metrics(points), *memory_metrics(memories), *event_metrics(read_events(folder))]
