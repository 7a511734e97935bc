"""A study's plan beside what it took, for its report.

In: the study and its artifacts. Out: a `PlannedCost`, of all chosen cells together; what they share counts once on both sides.
The plan is that of the beginning, which every command notes before a stage begins (`foreseen.py`). The time of a stage is that
in which its artifacts were made: of those that were made side by side, the time counts once.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cpt_ray.edges.device import cpu_products
from cpt_ray.plan.hardware import find_profile, load_cpu
from cpt_ray.records import Artifact, MemoryPoint, RunRecord
from cpt_ray.report.contents import PlannedCost
from cpt_ray.study import store
from cpt_ray.study.cost.place import Choice
from cpt_ray.study.findings.foreseen import foreseen, peaks_of, seconds_of
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.monitor.metrics import MEMORY, read_lineage

if TYPE_CHECKING:
    from cpt_ray.study.study import StudyDriver


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
    noted = foreseen(study.graph)
    if noted is not None and noted.on_gpu != on_gpu:
        noted = None
    verbs = {stage.name: stage.verb for stage in study.graph.stages}
    return PlannedCost(
        workers=cost.memory[0].num_workers,
        on_gpu=on_gpu,
        peak_bytes=noted.peak_bytes if noted else peaks_of(study.grid.trained(), cost, on_gpu=on_gpu),
        seconds=noted.seconds if noted else {} if time is None else seconds_of(cost),
        measured_seconds={
            verb: seconds_covered([one for one in artifacts if verbs[one.stage] == verb]) for verb in set(verbs.values())
        },
        basis=noted.basis if noted else time.basis if time is not None else "",
        foreseen=noted is not None,
        cells=len(cost.cells),
    )


def as_it_ran(runs: Sequence[RunRecord], *, on_gpu: bool) -> Choice | None:
    """The hardware that runs computed on, for a report that is written on another machine; None if it has no profile."""
    if not on_gpu:
        return Choice(load_cpu(cpu_products()))
    last = [run.training.attempts[-1] for run in runs if run.training is not None and run.training.attempts]
    # What the peak was measured on names the card.
    profile = find_profile(last[-1].peak_basis) if last else None
    return None if profile is None else Choice(profile, last[-1].world_size)


def seconds_covered(artifacts: Sequence[Artifact]) -> float:
    """Seconds in which at least one of the artifacts was being made."""
    ends = [datetime.datetime.fromisoformat(one.created).timestamp() for one in artifacts]
    spans = sorted((end - one.wall_s, end) for one, end in zip(artifacts, ends, strict=True))
    covered, until = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
