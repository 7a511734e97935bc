"""Find runs of finished studies by root and name, `runs/demo:smollm2-135m-legal-24000-seed0`, and compare them pairwise.

In: the evaluation artifacts under each root; no study file is read, and nothing is written. Out: `Pairing`s. Guarantee: which
folder a name stands for is unique, or said to be not.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from cpt_ray.compare.across import Contender, Pairing, pair
from cpt_ray.compare.deltas import Cell, Scored
from cpt_ray.edges.store import address, fetched, fetched_folder, here
from cpt_ray.errors import ArtifactError, ConfigError
from cpt_ray.records import Artifact, EvalRecord, ExamItem, read_items
from cpt_ray.study.store import require_known_format

_FOLDER = "evaluate"
_EXAMS = "exams"
_SEED = re.compile(r"-seed\d+$")


class _Found(NamedTuple):
    folder: Path
    artifact: Artifact
    record: EvalRecord


def names_a_run(argument: str) -> bool:
    """Whether a command's argument is a run of a study, `ROOT:RUN`, and neither a study file nor a root in a bucket."""
    return ":" in argument.rpartition("://")[2] and not argument.endswith((".yaml", ".yml")) and not Path(argument).is_file()


def compare_across(arguments: Sequence[str]) -> list[Pairing]:
    """Compare every run with every one before it.

    Raises:
        ConfigError: If there are fewer than two, one cannot be found, or no two of them share anything.
        DataError: If a score file is damaged.
    """
    if len(arguments) < 2:
        raise ConfigError(
            f"{arguments[0]} is one run, and comparing takes at least two",
            fix="name another one, such as cpt-ray compare runs/a:RUN runs/b:RUN",
        )
    contenders = [find_run(argument) for argument in arguments]
    found = [pair(subject, reference) for reference, subject in itertools.combinations(contenders, 2)]
    if not any(one.deltas for one in found):
        reasons = "; ".join(dict.fromkeys(reason for one in found for reason in one.refused))
        raise ConfigError(
            f"nothing of these runs can be paired: {reasons}",
            fix="score both on the same held-out documents or exams, with the same evaluate settings",
        )
    return found


def find_run(argument: str) -> Contender:
    """The scores of a run, or of all seeds of one that is named without its seed.

    Args:
        argument: `ROOT:RUN`: a study's root and a run, as reports name it; or, where several cells of a grid have that run, the
            name of its folder under ROOT/evaluate.

    Raises:
        ConfigError: If there is no such run, or several.
    """
    root, _, name = argument.rpartition(":")
    place = here(root or ".")
    require_known_format(place)
    fetched_folder(place / _FOLDER)
    known = _read(place, name)
    chosen = [one for one in known if name in (one.record.run, one.folder.name)]
    chosen = chosen or [one for one in known if _SEED.sub("", one.record.run) == name]
    if not chosen:
        near = difflib.get_close_matches(name, [one.record.run for one in known], n=3, cutoff=0.3)
        raise ConfigError(
            f"{root} has no scores of a run {name!r}",
            fix=f"name one that it has, such as {', '.join(dict.fromkeys(near or [one.record.run for one in known[:3]]))}",
        )
    newest = _newest(place, name, chosen)
    scored = tuple(
        Scored(one.record.model_copy(update={"run": f"{root}:{one.record.run}"}), one.folder)
        for one in sorted(newest, key=lambda one: one.record.seed or 0)
    )
    first = scored[0].record
    cell = Cell(f"{root}:{first.model}", first.arm, first.budget_tokens, scored)
    return Contender(argument, cell, newest[0].artifact.settings, _questions(place, newest[0].artifact))


def _questions(root: Path, scored: Artifact) -> dict[str, str]:
    """By exam, a hash of the questions and examples that a model was scored on; empty if they are no longer there."""
    wanted = scored.inputs.get(_EXAMS)
    if wanted is None:
        return {}
    fetched_folder(root / _EXAMS)
    found: dict[str, list[str]] = {}
    for path in (root / _EXAMS).glob(f"*/{Artifact.FILE}"):
        if Artifact.of(path.parent).fingerprint == wanted:
            for file in (ExamItem.FILE, ExamItem.EXAMPLES):
                for item in read_items(path.parent / file):
                    found.setdefault(item.task, []).append(f"{file} {item.to_json()}")
    return {exam: hashlib.sha256("\n".join(lines).encode()).hexdigest() for exam, lines in found.items()}


def _read(root: Path, name: str) -> list[_Found]:
    folders = sorted(path.parent for path in (root / _FOLDER).glob(f"*/{Artifact.FILE}"))
    if not folders:
        raise ConfigError(
            f"{address(root)} has no scores: there is no {_FOLDER}/*/{Artifact.FILE} in it",
            fix="give the root of a study that has been scored: its study.root",
        )
    found = []
    for folder in folders:
        try:
            found.append(_Found(folder, Artifact.of(folder), EvalRecord.of(folder)))
        except (OSError, ValueError) as error:
            if not folder.name.startswith(name):
                continue  # left by another version of cpt-ray, and not asked for
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(
                f"{folder}: its records cannot be read: {reason}",
                fix="score it again with the cpt-ray that is installed, or delete the folder if its study no longer needs it",
            ) from None
    return found


def _newest(root: Path, name: str, chosen: Sequence[_Found]) -> list[_Found]:
    """One artifact per run: the newest, where a study was scored again; but cells of a grid are different runs."""
    by_run: dict[str, list[_Found]] = {}
    for one in chosen:
        by_run.setdefault(one.record.run, []).append(one)
    several = [one.folder.name for found in by_run.values() if len(found) > 1 for one in found]
    if several and _has_axes(root):
        raise ConfigError(
            f"{address(root)} is a grid, and {name!r} is a run of several of its cells",
            fix=f"name the folder of one: {', '.join(several)}",
        )
    return [max(found, key=lambda one: one.artifact.created) for found in by_run.values()]


def _has_axes(root: Path) -> bool:
    try:
        config = yaml.safe_load(fetched(root / "study.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(config, dict) and bool(config.get("axes"))
