"""The plan of a study as it was before anything was made.

In: the graph and the grid of a command that begins. Out: `foreseen.json` in the root, a `ForeseenCost`. Every command notes it
for the stages of which nothing is made yet; later a plan would count what it should foretell.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import fetched
from cpt_ray.errors import CptRayError, problem_of
from cpt_ray.records import ForeseenCost
from cpt_ray.study import store
from cpt_ray.study.cost.grid import GridCost, plan_grid
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.grid import Grid, Member
from cpt_ray.study.stages.train import TRAIN

logger = logging.getLogger(__name__)


def foresee(graph: StudyGraph, grid: Grid) -> None:
    """Note what the study will take; what was noted of a stage stays once something of it is made.

    Where it cannot be planned yet, as with a model whose tokenizer is still to be learned, nothing is noted; nor of a graph
    that does not train.
    """
    if TRAIN not in graph.stages:
        return
    begun = _begun(graph)
    if begun == {stage.verb for stage in graph.stages}:  # nothing is left to foretell, and planning a large grid takes seconds
        return
    try:
        cost = plan_grid(graph)
    except CptRayError as error:
        logger.info("nothing is foreseen: %s", problem_of(error))
        return
    before, on_gpu, basis = foreseen(graph), cost.memory[0].on_gpu, cost.time.basis if cost.time else ""
    peaks, seconds = peaks_of(grid.trained(), cost, on_gpu=on_gpu), seconds_of(cost)
    if TRAIN.verb in begun:
        if before is None:  # its first commands were an older version's: too late
            return
        peaks, on_gpu, basis = before.peak_bytes, before.on_gpu, before.basis
    kept = {verb: known for verb, known in before.seconds.items() if verb in begun} if before is not None else {}
    seconds = {verb: known for verb, known in seconds.items() if verb not in begun} | kept
    noted = ForeseenCost(artifacts=_artifacts(graph), on_gpu=on_gpu, peak_bytes=peaks, seconds=seconds, basis=basis)
    write_atomic(graph.root / ForeseenCost.FILE, noted.to_json())


def foreseen(graph: StudyGraph) -> ForeseenCost | None:
    """What was noted of a study with these artifacts."""
    path = fetched(graph.root / ForeseenCost.FILE)
    if not path.is_file():
        return None
    noted = ForeseenCost.load(path)
    return noted if noted.artifacts == _artifacts(graph) else None


def peaks_of(runs: Sequence[Member], cost: GridCost, *, on_gpu: bool) -> dict[str, int]:
    """By model, as its runs are called in the study, the peak of the cell of them that needs the most."""
    found: dict[str, int] = {}
    for run in runs:
        plans = {plan.model: plan for plan in cost.cells[run.cell.cell.name].memory}
        plan = plans[run.node.work.spec.model]
        peak = plan.allocated_bytes if on_gpu else plan.peak_bytes
        found[run.names.model] = max(peak, found.get(run.names.model, 0))
    return found


def seconds_of(cost: GridCost) -> dict[str, float]:
    """Planned wall seconds by stage; those that are not known are left out."""
    return {} if cost.time is None else {one.stage: one.seconds for one in cost.time.stages if one.seconds is not None}


def _begun(graph: StudyGraph) -> set[str]:
    """The verbs of which something is made; the first artifact that is there decides, because a store takes time to ask."""
    verbs = {stage.verb for stage in graph.stages}
    return {verb for verb in verbs if any(map(store.exists, graph.all(verb)))}


def _artifacts(graph: StudyGraph) -> str:
    folders = sorted({node.folder.relative_to(graph.root).as_posix() for node in graph.all()})
    return hashlib.sha256("\n".join(folders).encode()).hexdigest()
