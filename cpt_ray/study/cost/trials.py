"""Trials and rates below a study's root: written by `cpt-ray plan --measure`, read by every later plan.

Files: `plan/<model>-<settings>.json`, one per model and settings, and `plan/prepare.json`. They are no artifacts: nothing
depends on them but estimates.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import fetched, fetched_names, is_mirrored, push
from cpt_ray.plan.trials import SavedRate, SavedTrial
from cpt_ray.study.graph import CellGraph
from cpt_ray.study.store import fingerprint

FOLDER = "plan"


def read_trials(graph: CellGraph) -> list[SavedTrial]:
    """All trials of a study, read once; those of another version of this package are left out."""
    return graph.once("trials", lambda: list(_readable(graph.root / FOLDER)))


def _readable(folder: Path) -> list[SavedTrial]:
    if is_mirrored(folder):
        fetched_names(folder)
    found = []
    for path in sorted(folder.glob("*.json")):
        if path.name != SavedRate.FILE:
            with contextlib.suppress(ValueError, OSError):
                found.append(SavedTrial.load(path))
    return found


def save_trial(root: Path, trial: SavedTrial) -> Path:
    """Write a trial in place of an older one of the same model and settings."""
    settings = trial.model_dump(mode="json", exclude={"trial", "created"})
    path = root / FOLDER / f"{trial.model}-{fingerprint(settings)[:8]}.json"
    write_atomic(path, trial.to_json())
    push(path)
    return path


def read_rate(graph: CellGraph) -> float | None:
    """Bytes of text per second that one process prepared of a sample; None if this text was not tried."""

    def read() -> float | None:
        path = fetched(graph.root / FOLDER / SavedRate.FILE)
        with contextlib.suppress(ValueError, OSError):
            rate = SavedRate.load(path)
            return rate.bytes_per_s if rate.sources == text_fingerprint(graph) else None
        return None

    return graph.once(f"rate {text_fingerprint(graph)}", read)


def save_rate(root: Path, rate: SavedRate) -> None:
    """Write the rate of a sample."""
    path = root / FOLDER / SavedRate.FILE
    write_atomic(path, rate.to_json())
    push(path)


def text_fingerprint(graph: CellGraph) -> str:
    """Of what preparation reads, and of how."""
    prepare = graph.config.prepare.model_dump(mode="json")
    return fingerprint({"sources": [one.model_dump(mode="json") for one in graph.config.read_sources], "prepare": prepare})
