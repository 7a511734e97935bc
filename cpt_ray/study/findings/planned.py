"""A study's plan beside what it took, for its report.

In: the study and its artifacts. Out: a `PlannedCost`, of the first cell. The time of a stage is that in which its artifacts
were made: of those that were made side by side, the time counts once.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cpt_ray.records import Artifact, MemoryPoint
from cpt_ray.report.contents import PlannedCost
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.monitor.metrics import MEMORY, read_lineage

if TYPE_CHECKING:
    from cpt_ray.study.study import StudyDriver


def planned_cost(study: StudyDriver, artifacts: Sequence[Artifact]) -> PlannedCost | None:
    """What the study was planned to take; None if its runs computed on another kind of device than is planned for here.

    Args:
        study: The study.
        artifacts: All that it made.
    """
    cost = study.plan()
    points = (point for node in study.graph.of(TRAIN) for point in read_lineage(node.folder, MEMORY, MemoryPoint))
    on_gpu = any(point.device_bytes is not None for point in points)
    if any(plan.on_gpu != on_gpu for plan in cost.memory):
        return None
    verbs = {stage.name: stage.verb for stage in study.graph.stages}
    one_cell = len(study.graph.cells) == 1  # a grid is planned cell by cell
    stages = cost.time.stages if cost.time is not None and one_cell else ()
    return PlannedCost(
        workers=cost.memory[0].num_workers,
        on_gpu=on_gpu,
        peak_bytes={plan.model: plan.allocated_bytes if on_gpu else plan.peak_bytes for plan in cost.memory},
        seconds={stage.stage: stage.seconds for stage in stages if stage.seconds is not None},
        measured_seconds={
            verb: seconds_covered([one for one in artifacts if verbs[one.stage] == verb]) for verb in set(verbs.values())
        },
        basis=cost.time.basis if stages and cost.time is not None else "",
    )


def seconds_covered(artifacts: Sequence[Artifact]) -> float:
    """Seconds in which at least one of the artifacts was being made."""
    ends = [datetime.datetime.fromisoformat(one.created).timestamp() for one in artifacts]
    spans = sorted((end - one.wall_s, end) for one, end in zip(artifacts, ends, strict=True))
    covered, until = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
