"""A study's status from its root alone: its lease, what its newest command noted, its artifacts, and what its runs wrote.

In: a root, which is only read; no lease is taken, and no source, base or package of training is needed. Out: a `StudyStatus`.
A run costs its heartbeats, its events and the end of its metrics, however long it is.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from cpt_ray.edges import store as bucket
from cpt_ray.edges.lease import Holder, look_at_lease
from cpt_ray.edges.store.transfer import at_once
from cpt_ray.errors import ArtifactError
from cpt_ray.records import (
    Artifact,
    CommandRecord,
    DriverStatus,
    Heartbeat,
    PlannedArtifact,
    PlannedStudy,
    Record,
    RunEvent,
    RunStatus,
    StudyState,
    StudyStatus,
    VerbStatus,
    WorkerStatus,
)
from cpt_ray.study.live.lines import event_text, pace
from cpt_ray.study.live.status.logs import bring_driver_log
from cpt_ray.study.live.status.place import Place
from cpt_ray.study.store import STUDY_FILE
from cpt_ray.train.monitor.heartbeat import read_heartbeats
from cpt_ray.train.monitor.metrics import bring_run, last_steps, read_events

RecordT = TypeVar("RecordT", bound=Record)
_RUNS = "train"
_VERBS = ("prepare", "train", "evaluate")
_LOSSES = 60
_EVENTS = 3
_REPORT = "report.html"
_TRIES = 3
"""Of an object that is replaced between two requests of a fetch, the end may be missing."""


def gather(place: Place) -> StudyStatus:
    """The status of a study.

    Raises:
        ArtifactError: If a store refuses, or a record cannot be read.
        LeaseError: If the lease is none.
    """
    root = place.root
    holder = look_at_lease(root) if place.begun else None
    command = _load(root, CommandRecord) if place.begun else None
    if command is not None and holder is not None and command.attempt != holder.lease.attempt:
        command = None  # the driver that has the lease has not said anything yet
    planned = _load(root, PlannedStudy) if place.begun else None
    artifacts = planned.artifacts if planned else _found(root)
    made = at_once(lambda one: bucket.exists(root / one.folder / Artifact.FILE), artifacts)
    done = {one.folder for one, is_made in zip(artifacts, made, strict=True) if is_made}
    report = root / _REPORT if bucket.exists(root / _REPORT) else None
    verbs = tuple(_verb(verb, artifacts, done) for verb in _VERBS) if planned else ()
    finished = report is not None and len(done) == len(artifacts)
    state = _state(place, holder, command, finished=finished)
    runs = tuple(at_once(lambda one: _run(root, one, one.folder in done), [one for one in artifacts if one.stage == _RUNS]))
    return StudyStatus(
        study=planned.study if planned else _name(root),
        root=bucket.address(root),
        state=state,
        driver=_driver(holder),
        command=command,
        verbs=verbs,
        runs=runs,
        eta_s=_eta(runs) if state == "running" else None,
        last_words=_last_words(root) if state == "died" else "",
        report=bucket.address(report) if report else None,
        next=tuple(_next(place, state, command, verbs)),
    )


def _load(root: Path, record: type[RecordT]) -> RecordT | None:
    problem = ""
    for _ in range(_TRIES):
        path = bucket.fresh(root / record.FILE)
        try:
            return record.load(path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            problem = str(error).splitlines()[0]
    raise ArtifactError(
        f"{bucket.address(path)}: not what cpt-ray writes there: {problem}",
        fix=f"delete {bucket.address(path)}; the study's next command writes it again",
    )


def _name(root: Path) -> str:
    try:
        return str(yaml.safe_load(bucket.fresh(root / STUDY_FILE).read_text(encoding="utf-8"))["study"]["name"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return root.name


def _found(root: Path) -> tuple[PlannedArtifact, ...]:
    """The runs that are there, of a study that did not note its plan."""
    if bucket.is_mirrored(root):
        return ()
    folders = sorted((root / _RUNS).glob("*-????????"))
    return tuple(
        PlannedArtifact(stage=_RUNS, verb=_RUNS, name=folder.name[:-9], folder=f"{_RUNS}/{folder.name}") for folder in folders
    )


def _verb(verb: str, artifacts: Sequence[PlannedArtifact], done: set[str]) -> VerbStatus:
    mine = [one for one in artifacts if one.verb == verb]
    return VerbStatus(verb=verb, done=sum(one.folder in done for one in mine), artifacts=len(mine))


def _state(place: Place, holder: Holder | None, command: CommandRecord | None, *, finished: bool) -> StudyState:
    if not place.begun:
        return "never started"
    if holder is not None and not holder.lease.released:
        return "running" if holder.alive else "died"
    if command is not None and command.outcome == "failed":
        return "failed"
    if command is not None and command.outcome == "interrupted":
        return "interrupted"
    return "finished" if finished else "stopped"


def _driver(holder: Holder | None) -> DriverStatus | None:
    if holder is None:
        return None
    lease = holder.lease
    facts = {"attempt": lease.attempt, "host": lease.host, "pid": lease.pid, "released": lease.released}
    return DriverStatus(**facts, alive=holder.alive, heartbeat_s=holder.renewed_s)


def _run(root: Path, planned: PlannedArtifact, done: bool) -> RunStatus:
    folder = root / planned.folder
    ends = {"start_tokens": planned.start_tokens, "stop_tokens": planned.stop_tokens}
    if not done:
        bring_run(folder)
    steps, beats = last_steps(folder, _LOSSES), () if done else read_heartbeats(folder)
    status = RunStatus(name=planned.name, state="done" if done else "training" if steps or beats else "waiting", **ends)
    status = status.model_copy(update={"workers": tuple(map(_worker, beats)), "events": _events(folder)})
    if not steps:
        return status.model_copy(update={"share": 1.0 if done else None})
    last = steps[-1]
    now = pace(steps, planned.start_tokens or 0, planned.stop_tokens or 0)
    known = planned.stop_tokens is not None
    return status.model_copy(
        update={
            "tokens": last.tokens_seen + last.tokens_skipped,
            "share": 1.0 if done else now.share if known else None,
            "step": last.step,
            "tokens_per_s": now.tokens_per_s or None,
            "eta_s": now.eta_s if known and not done else None,
            "losses": tuple(step.loss for step in steps if not step.skipped),
            "attempts": last.attempt,
        }
    )


def _worker(beat: Heartbeat) -> WorkerStatus:
    moved = max(0.0, time.time() - beat.time)
    return WorkerStatus(rank=beat.rank, host=beat.host, pid=beat.pid, phase=beat.phase, step=beat.step, moved_s=moved)


def _events(folder: Path) -> tuple[str, ...]:
    found: Sequence[RunEvent] = [one for one in read_events(folder) if one.kind not in ("checkpoint", "compile")]
    return tuple(event_text(one) for one in found[-_EVENTS:])


def _eta(runs: Sequence[RunStatus]) -> float | None:
    """All tokens that are left, at the rate of the runs that train now."""
    left = sum((run.stop_tokens or 0) - max(run.tokens, run.start_tokens or 0) for run in runs if run.state != "done")
    rate = sum(run.tokens_per_s or 0.0 for run in runs if run.state == "training")
    return max(0, left) / rate if rate else None


def _last_words(root: Path) -> str:
    try:
        lines = bring_driver_log(root).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _next(place: Place, state: StudyState, command: CommandRecord | None, verbs: Sequence[VerbStatus]) -> list[str]:
    """What to type, the first thing first."""
    config = "CONFIG" if place.config is None else shlex.join([str(place.config), *place.overrides])
    where = shlex.quote(bucket.address(place.root)) if place.config is None else config
    if state == "never started":
        return [f"cpt-ray check {config}", f"cpt-ray run {config}"]
    if state == "running":
        return [f"cpt-ray logs {where} --follow"]
    if state == "finished":
        root = shlex.quote(bucket.address(place.root))
        return (
            [f"cpt-ray fetch {root} report ."] if bucket.is_mirrored(place.root) else [f"python -m webbrowser {root}/{_REPORT}"]
        )
    if state in ("died", "failed", "interrupted"):
        again = _from_its_folder(command, command.command) if command else f"cpt-ray run {config}"
        return [again] if state == "interrupted" else [again, f"cpt-ray logs {where} --errors"]
    missing = next((one.verb for one in verbs if one.done < one.artifacts), "report")
    words = shlex.split(command.command) if command else []
    if command is not None and len(words) > 2 and words[0] == "cpt-ray":
        return [_from_its_folder(command, shlex.join(["cpt-ray", missing, *words[2:]]))]
    return [f"cpt-ray {missing} {config}"]


def _from_its_folder(command: CommandRecord, typed: str) -> str:
    return typed if command.folder == os.getcwd() else f"cd {shlex.quote(command.folder)} && {typed}"
