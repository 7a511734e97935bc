"""A study's plan beside what it took, for its report.

In: the study and its artifacts. Out: a `PlannedCost`, of all chosen cells together; what they share counts once on both sides.
The plan is that of the beginning, which every command notes (`foresee`) for the stages of which nothing is made yet; later it
would count what it should foretell. The time of a stage is that in which its artifacts were made: of those that were made side
by side, the time counts once.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cpt_ray.edges.device import cpu_has_bf16
from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import fetched
from cpt_ray.errors import CptRayError, problem_of
from cpt_ray.plan.hardware import find_profile, load_cpu
from cpt_ray.records import Artifact, ForeseenCost, MemoryPoint, RunRecord
from cpt_ray.report.contents import PlannedCost
from cpt_ray.study import store
from cpt_ray.study.cost.place import Choice
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.monitor.metrics import MEMORY, read_lineage

if TYPE_CHECKING:
    from cpt_ray.study.cost.grid import GridCost
    from cpt_ray.study.grid import Member
    from cpt_ray.study.study import StudyDriver


logger = logging.getLogger(__name__)


def foresee(study: StudyDriver) -> None:
    """Note what the study will take; what was noted of a stage stays once something of it is made.

    Where it cannot be planned yet, as with a model whose tokenizer is still to be learned, nothing is noted.
    """
    try:
        cost = study.plan_grid()
    except CptRayError as error:
        logger.info("nothing is foreseen: %s", problem_of(error))
        return
    before, on_gpu, basis = _foreseen(study), cost.memory[0].on_gpu, cost.time.basis if cost.time else ""
    begun = _begun(study)
    peaks, seconds = _peaks(study.grid.trained(), cost, on_gpu=on_gpu), _seconds(cost)
    if TRAIN.verb in begun:
        if before is None:  # its first commands were an older version's: too late
            return
        peaks, on_gpu, basis = before.peak_bytes, before.on_gpu, before.basis
    kept = {verb: known for verb, known in before.seconds.items() if verb in begun} if before is not None else {}
    seconds = {verb: known for verb, known in seconds.items() if verb not in begun} | kept
    noted = ForeseenCost(artifacts=_artifacts(study), on_gpu=on_gpu, peak_bytes=peaks, seconds=seconds, basis=basis)
    write_atomic(study.root / ForeseenCost.FILE, noted.to_json())


def _begun(study: StudyDriver) -> set[str]:
    """The verbs of which something is made."""
    return {node.stage.verb for node in study.graph.all() if store.exists(node)}


def _foreseen(study: StudyDriver) -> ForeseenCost | None:
    """What was noted of a study with these artifacts."""
    path = fetched(study.root / ForeseenCost.FILE)
    if not path.is_file():
        return None
    noted = ForeseenCost.load(path)
    return noted if noted.artifacts == _artifacts(study) else None


def _artifacts(study: StudyDriver) -> str:
    folders = sorted({node.folder.relative_to(study.root).as_posix() for node in study.graph.all()})
    return hashlib.sha256("\n".join(folders).encode()).hexdigest()


def _seconds(cost: GridCost) -> dict[str, float]:
    return {} if cost.time is None else {one.stage: one.seconds for one in cost.time.stages if one.seconds is not None}


def planned_cost(study: StudyDriver, artifacts: Sequence[Artifact]) -> PlannedCost | None:
    """What the study was planned to take; None if its runs computed on a GPU that is neither here nor has a profile.

    Args:
        study: The study.
        artifacts: All that it made.
    """
    cost = study.plan_grid()
    points = (point for node in study.graph.of(TRAIN) for point in read_lineage(node.folder, MEMORY, MemoryPoint))
    on_gpu = any(point.device_bytes is not None for point in points)
    elsewhere = any(plan.on_gpu != on_gpu for plan in cost.memory)
    if elsewhere:
        choice = as_it_ran([store.load(node) for node in study.graph.of(TRAIN) if store.exists(node)], on_gpu=on_gpu)
        if choice is None:
            return None
        cost = study.plan_grid(choice)
    # Of other CPUs neither the number of cores nor their pace is known.
    time = None if elsewhere and not on_gpu else cost.time
    foreseen = _foreseen(study)
    if foreseen is not None and foreseen.on_gpu != on_gpu:
        foreseen = None
    planned = {} if time is None else _seconds(cost)
    basis = time.basis if time is not None else ""
    verbs = {stage.name: stage.verb for stage in study.graph.stages}
    return PlannedCost(
        workers=cost.memory[0].num_workers,
        on_gpu=on_gpu,
        peak_bytes=foreseen.peak_bytes if foreseen else _peaks(study.grid.trained(), cost, on_gpu=on_gpu),
        seconds=foreseen.seconds if foreseen else planned,
        measured_seconds={
            verb: seconds_covered([one for one in artifacts if verbs[one.stage] == verb]) for verb in set(verbs.values())
        },
        basis=foreseen.basis if foreseen else basis,
        foreseen=foreseen is not None,
        cells=len(cost.cells),
    )


def as_it_ran(runs: Sequence[RunRecord], *, on_gpu: bool) -> Choice | None:
    """The hardware that runs computed on, for a report that is written on another machine; None if it has no profile."""
    if not on_gpu:
        return Choice(load_cpu(has_bf16=cpu_has_bf16()))
    last = [run.training.attempts[-1] for run in runs if run.training is not None and run.training.attempts]
    # What the peak was measured on names the card.
    profile = find_profile(last[-1].peak_basis) if last else None
    return None if profile is None else Choice(profile, last[-1].world_size)


def _peaks(runs: Sequence[Member], cost: GridCost, *, on_gpu: bool) -> dict[str, int]:
    """By model, as its runs are called in the study, the peak of the cell of them that needs the most."""
    found: dict[str, int] = {}
    for run in runs:
        plans = {plan.model: plan for plan in cost.cells[run.cell.cell.name].memory}
        plan = plans[run.node.work.spec.model]
        peak = plan.allocated_bytes if on_gpu else plan.peak_bytes
        found[run.names.model] = max(peak, found.get(run.names.model, 0))
    return found


def seconds_covered(artifacts: Sequence[Artifact]) -> float:
    """Seconds in which at least one of the artifacts was being made."""
    ends = [datetime.datetime.fromisoformat(one.created).timestamp() for one in artifacts]
    spans = sorted((end - one.wall_s, end) for one, end in zip(artifacts, ends, strict=True))
    covered, until = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
