"""A study's curves where its users watch them: TensorBoard and Weights & Biases, through one door (`edges/tracking/curves.py`).

In: the study file's `tracking` section, and what runs write. While a run trains its steps are written about every ten seconds:
all of them where points can be taken back, else those that a checkpoint covers. With the report come all runs whole, and the
scores. Guarantee: a place that fails is reported once and stops nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cpt_ray.config.sections.runtime import TrackingConfig
from cpt_ray.edges.store import address
from cpt_ray.edges.tracking.curves import CurvePlace, run_points, score_points
from cpt_ray.edges.tracking.event_files import FOLDER, EventFiles
from cpt_ray.edges.tracking.metrics import curve_metrics
from cpt_ray.errors import ConfigError
from cpt_ray.records import Point, RunAttempt, RunSpec, StepMetrics
from cpt_ray.study.findings.mirror import watched_metrics
from cpt_ray.study.stages.stage import Console, ReadSteps
from cpt_ray.train.checkpoint import committed
from cpt_ray.train.monitor.metrics import ATTEMPTS, read_metrics

_EVERY_S = 10.0
_REST = 20.0
"""A pause is at least so many times as long as the writing before it."""
SCORES = "scores"
"""The run that has the token-scaling curves."""


def open_places(tracking: TrackingConfig, root: Path, study: str) -> dict[str, CurvePlace]:
    """The places that a study file asks for, by their keys.

    Raises:
        ConfigError: If one needs a package that is not installed.
    """
    places: dict[str, CurvePlace] = {}
    if tracking.tensorboard:
        places["tracking.tensorboard"] = EventFiles(root)
    if tracking.wandb:
        from cpt_ray.edges.tracking.wandb_runs import WandbRuns

        places["tracking.wandb"] = WandbRuns(root, tracking.experiment, study)
    return places


class StudyCurves:
    """The curves of a study while one command works on it.

    Args:
        places: Where they are drawn, by the key that asks for it.
        root: The study's root.
        console: Where a place that fails is reported.
    """

    def __init__(self, places: Mapping[str, CurvePlace], root: Path, console: Console) -> None:
        self._places, self._root, self._console = dict(places), root, console
        self._last: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()

    def follow(self, spec: RunSpec, folder: Path) -> Callable[[ReadSteps], None]:
        """What to call while a run trains, with what reads its steps; most calls do nothing."""
        due = time.monotonic() + _EVERY_S

        def write(steps: ReadSteps) -> None:
            nonlocal due
            if not self._places:
                return
            self._last[spec.name] = lambda: self._write_run(spec.name, folder, steps())
            if (began := time.monotonic()) >= due:
                self._write_run(spec.name, folder, steps())
                # All points are read: of a run of 10^5 steps that takes seconds, in the thread that reads heartbeats.
                due = time.monotonic() + max(_EVERY_S, _REST * (time.monotonic() - began))

        return write

    def conclude(self, folders: Mapping[str, Path], points: Sequence[Point], control_arms: frozenset[str]) -> list[str]:
        """Write all runs whole, and the scores; returns how to look at them.

        Args:
            folders: Run name to its folder.
            points: The scores.
            control_arms: Arms whose role is control.
        """
        self._last.clear()
        for name, folder in folders.items():
            self._write_run(name, folder, read_metrics(folder, rows=False), whole=True)
        scores = score_points(curve_metrics(points, control_arms), time.time())
        for key in list(self._places):
            with self._reported(key) as place:
                place.write(SCORES, f"{address(self._root)} {SCORES}", scores)
        return self.where()

    def where(self) -> list[str]:
        """How to look at the curves."""
        told = {
            "tracking.tensorboard": f"tensorboard: tensorboard --logdir {address(self._root / FOLDER)}",
            "tracking.wandb": f"wandb: files are in {self._root / 'wandb'}; wandb sync sends those of offline runs",
        }
        return [told[key] for key in self._places]

    def close(self, *, failed: bool) -> None:
        """Write what the last ten seconds brought, and end."""
        for write in self._last.values():
            write()
        for key in list(self._places):
            with self._reported(key) as place:
                place.close(failed=failed)

    def _write_run(self, name: str, folder: Path, steps: Sequence[StepMetrics], *, whole: bool = False) -> None:
        if not steps:
            return
        # Under its fingerprint too, as its folder: a run of other settings is drawn beside it.
        run = f"{name}-{folder.name[-8:]}"
        with self._lock:
            for key in list(self._places):
                with self._reported(key) as place:
                    shown = steps if place.takes_back or whole else _covered(folder, steps)
                    until = None if place.takes_back or not shown else shown[-1].step
                    if shown:
                        place.write(
                            run, address(folder), run_points(shown, watched_metrics(folder, until=until), _started(folder))
                        )

    @contextlib.contextmanager
    def _reported(self, key: str) -> Iterator[CurvePlace]:
        """Within, a place may fail: that is said once, and it is used no more."""
        try:
            yield self._places[key]
        except ConfigError:
            raise
        except Exception as error:  # whatever a service's package raises must not stop training
            del self._places[key]
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._console.say(f"  {key}: no curves are written any more ({said}); cpt-ray report writes them later")


def _covered(folder: Path, steps: Sequence[StepMetrics]) -> Sequence[StepMetrics]:
    """The steps before a committed checkpoint: no resumed run does them again, and their held-out losses are there."""
    found = committed.newest(folder)
    return [step for step in steps if found is not None and step.step < found[1].progress.step]


def _started(folder: Path) -> float:
    """When the first workers began with a run, in Unix seconds; 0 if it does not say."""
    first = min((folder / ATTEMPTS).glob("attempt-*.json"), default=None)
    started = "" if first is None else RunAttempt.load(first).started
    return datetime.datetime.fromisoformat(started).timestamp() if started else 0.0
