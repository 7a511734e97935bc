"""Mirror a study's records into MLflow: live while a run trains, whole when the study is done.

MLflow shows what lies in the records and is never read back. A step is mirrored once a committed checkpoint covers it, because
a logged metric cannot be taken back and a step after the last checkpoint may be done again. A tracking server that does not
answer is reported once and does not stop training; `cpt-ray report` mirrors everything later.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt_ray.errors import CptRayError
from cpt_ray.records import Comparison, HeldOutPoint, MemoryPoint, RunSpec, StepMetrics
from cpt_ray.study.corpus import corpus_tables
from cpt_ray.study.store import fingerprint
from cpt_ray.study.study import Study
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.monitor import held_out, memory
from cpt_ray.train.monitor.metrics import read_events, read_lineage, read_metrics

if TYPE_CHECKING:
    from cpt_ray.edges.tracking import Tracking, Watched

_EVERY_S = 10.0


class LiveMirror:
    """Mirrors one run while it trains; called from the thread that watches it."""

    def __init__(self, study: Study, spec: RunSpec) -> None:
        self._study, self._spec = study, spec
        self._folder = study.graph.runs[spec.name].folder
        self._tracking: Tracking | None = None
        self._parent = ""
        self._last = time.monotonic()
        self._given_up = False

    def __call__(self, steps: tuple[StepMetrics, ...]) -> None:
        """Mirror the steps that a committed checkpoint covers, at most every ten seconds."""
        if self._given_up or time.monotonic() - self._last < _EVERY_S:
            return
        found = checkpoint.newest(self._folder)
        covered = [step for step in steps if found is not None and step.step <= found[1].step]
        if not covered:
            return
        self._last = time.monotonic()
        try:
            if self._tracking is None:
                self._tracking, self._parent = _open(self._study, ())
            self._tracking.mirror_run(
                self._parent,
                self._spec,
                metrics=covered,
                watched=_watched(self._folder, until=covered[-1].step),
                params=_params(self._study),
            )
        except Exception as error:  # whatever MLflow raises, training must not stop for it
            self._given_up = True
            self._study.console.say(
                f"  MLflow at {tracking_uri(self._study)} does not take metrics ({type(error).__name__}); training goes on, "
                "cpt-ray report mirrors them later"
            )


def mirror_study(study: Study, comparison: Comparison, report: Path) -> str:
    """Mirror all runs, the token-scaling curve and the report; returns the tracking URI.

    Raises:
        CptRayError: If MLflow cannot be reached; the records are whole all the same.
    """
    uri = tracking_uri(study)
    try:
        tracking, parent = _open(study, comparison.points)
        for record in study.runs():
            if record.kind == "trajectory":
                continue  # part of its parent; its scores are in the study's curves
            spot = study.graph.runs.get(record.run)
            metrics = read_metrics(spot.folder) if spot else ()
            watched = _watched(spot.folder) if spot else ()
            params = _params(study) if spot else None
            tracking.mirror_run(parent, record, metrics=metrics, watched=watched, params=params)
        documents = study.documents()
        tables = corpus_tables(documents, study.shards(study.config.models[0].name).reports)
        tracking.finish_study(parent, report=report, config=_config(study), tables=tables)
    except OSError as error:
        raise CptRayError(
            f"MLflow at {uri} cannot be reached: {error}",
            fix="mend tracking.uri and run cpt-ray report again; nothing was lost",
        ) from error
    return uri


def tracking_uri(study: Study) -> str:
    """Where the study is mirrored: `tracking.uri`, or sqlite in its root."""
    from cpt_ray.edges.tracking import default_uri

    return study.config.tracking.uri or default_uri(study.root)


def _open(study: Study, points: Sequence[Any]) -> tuple[Tracking, str]:
    from cpt_ray.edges.tracking import Tracking

    tracking = Tracking(tracking_uri(study), study.config.tracking.experiment)
    # A changed setting is another study for MLflow: its runs stand beside the old ones.
    identity = fingerprint([spot.fingerprint for spot in study.graph.all()])[:8]
    parent = tracking.mirror_study(
        study.config.study.name,
        f"{study.root} {identity}",
        config=_config(study),
        points=points,
        control_arms=frozenset(name for name, arm in study.config.arms.items() if arm.role == "control"),
    )
    return tracking, parent


def _watched(folder: Path, *, until: int | None = None) -> list[Watched]:
    """What was watched of a run; while it trains, up to a step, only held-out losses: a line of these is final when written."""
    from cpt_ray.edges.tracking import event_metrics, held_out_metrics, memory_metrics

    points = read_lineage(folder, held_out.FOLDER, HeldOutPoint)
    if until is not None:
        return held_out_metrics([point for point in points if point.step <= until])
    # Held-out losses first: what stands behind them is added when the run is done.
    memories = read_lineage(folder, memory.FOLDER, MemoryPoint)
    return [*held_out_metrics(points), *memory_metrics(memories), *event_metrics(read_events(folder))]


def _config(study: Study) -> dict[str, Any]:
    return study.config.model_dump(mode="json", exclude={"runtime", "tracking"})


def _params(study: Study) -> dict[str, Any]:
    settings = study.config.train.model_dump(mode="json", exclude={"budgets"})
    return {f"train.{key}": value for key, value in settings.items()}
