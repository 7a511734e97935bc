"""Bring the results of a study to this machine, from its root alone: no study file, no source and no base is needed.

In: a root on a disk or in a bucket, which is only read. Out: copies in a folder. Links are made where the disk allows them, so
that what this machine has of a bucket is not kept twice. MLflow's database is copied, and leads to the artifacts beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cpt_ray.config.values import check_root
from cpt_ray.edges.storage import unwritable
from cpt_ray.edges.store import address, fresh, is_mirrored, listing, matches, refresh
from cpt_ray.edges.store.transfer import INDEX
from cpt_ray.edges.tracking.moved import ARTIFACTS, DATABASE, copy_database, lead_here
from cpt_ray.errors import ConfigError
from cpt_ray.study.stages.train import EXPORTS
from cpt_ray.study.store import STUDY_FILE, require_known_format, resolve_root

_FILES = {
    "report": ("report.html", "report.md", "report.json", "comparison.json", STUDY_FILE),
    "scores": ("evaluate/**/*",),
    "runs": ("train/*/run.json", "train/*/metrics/*.jsonl", "train/*/events/*.jsonl", "train/*/held_out/*.jsonl"),
    "mlflow": (DATABASE, f"{ARTIFACTS}/**/*"),
}
_CHOICES = f"{', '.join(_FILES)}, {EXPORTS}, or {EXPORTS}/RUN"


def fetch(root: str, what: str, to: Path) -> list[Path]:
    """Copy results of a study into a folder.

    Args:
        root: The study's root, as `study.root` has it.
        what: `report`, `scores`, `runs`, `mlflow`, `exports`, or `exports/RUN`.
        to: The folder; files keep their places below the root, exports are named after their runs.

    Returns:
        The files and folders that were copied, at their new place.

    Raises:
        ConfigError: If the root is none or holds no study, or there is nothing of what is asked for.
        ArtifactError: If the root cannot be read, or the folder cannot be written.
    """
    try:
        place = resolve_root(check_root(root))
    except ValueError as error:
        raise ConfigError(str(error), fix="give the study's root as its study file has it") from None
    if not fresh(place / STUDY_FILE).is_file():
        raise ConfigError(f"{address(place)} holds no study: there is no {STUDY_FILE}", fix="give the study.root of a study")
    require_known_format(place)
    listed = listing(place) if is_mirrored(place) else None
    names = sorted(listed) if listed is not None else _names(place)
    if what in _FILES:
        found = [name for name in names if any(matches(name, one) for one in _FILES[what]) and not name.endswith(INDEX)]
        copies = {name: name for name in found}
        told = sorted({to / name.split("/")[0] for name in found})
    elif what == EXPORTS or what.startswith(f"{EXPORTS}/"):
        exports = dict(_exports(place, names))
        run = what.partition("/")[2]
        if run and run not in exports:
            raise ConfigError(
                f"{address(place)} has no export of {run!r}", fix=f"name one of {', '.join(sorted(exports)) or 'none yet'}"
            )
        chosen = {run: exports[run]} if run else exports
        copies = {
            name: f"{EXPORTS}/{run}/{name[len(folder) + 1 :]}"
            for run, folder in chosen.items()
            for name in names
            if name.startswith(f"{folder}/") and not name.endswith(INDEX)
        }
        told = [to / EXPORTS / run for run in sorted(chosen)]
    else:
        raise ConfigError(f"{what!r} is nothing that can be fetched", fix=f"ask for {_CHOICES}")
    if not copies or (what == "mlflow" and DATABASE not in copies):
        elsewhere = "; a study with tracking.uri has its numbers there" if what == "mlflow" else ""
        raise ConfigError(f"{address(place)} has no {what} yet", fix=f"run cpt-ray run with the study file first{elsewhere}")
    if listed is not None:  # a report may have changed since it was fetched before
        refresh(place, {name: listed[name] for name in copies})
    for source, name in copies.items():
        # A database is written by whoever opens it, and perhaps just now.
        (copy_database if name == DATABASE else _copy)(place / source, to / name)
    if DATABASE in copies:
        lead_here(to)
    return told


def _names(root: Path) -> list[str]:
    """All files below a root on a disk by relative name; links are not followed."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _exports(root: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    """Run, and the folder of its export relative to the root."""
    if not is_mirrored(root):
        for link in sorted((root / EXPORTS).glob("*")):
            if link.is_symlink() and not link.name.startswith("."):
                yield link.name, os.path.normpath(Path(EXPORTS) / os.readlink(link))
        return
    for name in names:
        if matches(name, f"{EXPORTS}/*"):
            target = fresh(root / name).read_text(encoding="utf-8")
            yield name.partition("/")[2], os.path.normpath(Path(EXPORTS) / target)


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if is_mirrored(source):  # a study on a disk goes on writing: its files are not shared
                os.link(source, temporary)
        if not temporary.exists():
            shutil.copy2(source, temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise unwritable(target, error) from error
