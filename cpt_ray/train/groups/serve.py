"""A worker's entry point: train the runs that its group is given, one after another, until there is none left for it.

The same function runs in a worker of Ray Train and in the driver process; only the queue that it asks is near or far. Starting
a group takes tens of seconds; a further run in the same group only needs a model and an engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from cpt_ray.edges.process import quick_imports
from cpt_ray.errors import CptRayError
from cpt_ray.train.groups.queue import Turns
from cpt_ray.train.shutdown import AskPreemption
from cpt_ray.train.task import TrainTask

_ASK_S = 0.5


def serve(
    turns: Turns, group: int, tasks: Sequence[TrainTask], *, ask_preemption: AskPreemption | None = None
) -> CptRayError | None:
    """Train the group's runs; called by each of its workers.

    Args:
        turns: Says which run is next; the same for all workers of the group.
        group: Number of the group.
        tasks: All runs of the study that are trained.
        ask_preemption: Reports whether a node of the group will be preempted.

    Returns:
        The error with which a run refused, after which the group ends: its workers hold what the run has left. It is returned
        because Ray Train would restart a group that raises, in vain.
    """
    with quick_imports():
        from cpt_ray.train.worker import run_worker

    after: int | None = None
    try:
        while (turn := turns.take(group, after)) != "end":
            if turn == "wait":
                time.sleep(_ASK_S)
            else:
                run_worker(tasks[turn], ask_preemption=ask_preemption)
                after = turn
    except CptRayError as error:
        return error
    return None
