"""A worker's entry point: train the runs that its group is given, one after another, until there is none left for it.

The same function runs in a worker of Ray Train and in the driver process; only the queue that it asks is near or far. Starting
a group takes tens of seconds; a further run in the same group only needs a model and an engine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Sequence

from cpt_ray.edges.process import quick_imports
from cpt_ray.edges.store import here, in_use
from cpt_ray.errors import CptRayError, TrainingStopped
from cpt_ray.train.groups.queue import Turns
from cpt_ray.train.shutdown import AskPreemption
from cpt_ray.train.task import TrainTask

_ASK_S = 0.5
_LEAVE_S = 10.0
"""After which a worker that refused ends its process, if the others still keep its group alive."""


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
                task = tasks[turn]
                with in_use(*(path and here(path) for path in (task.model_folder, task.run_folder, task.parent_folder))):
                    run_worker(task, tell=functools.partial(turns.beat, turn), ask_preemption=ask_preemption)
                after = turn
    except CptRayError as error:
        turns.refuse(group, error)
        if not isinstance(error, TrainingStopped):  # with which all stop together
            _leave()
        return error
    return None


def _leave() -> None:
    """Close this worker's connections: one that refuses alone must not keep the others in a collective until that times out.

    They fail at once, Ray Train restarts the group, and the queue has nothing for it. Where all refuse, the group just ends.
    """
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_world_size() > 1:
        # Connections stay open for as long as anything refers to their group, as an engine does; but not beyond the process.
        exit_unless_ended = threading.Timer(_LEAVE_S, os._exit, (1,))
        exit_unless_ended.daemon = True
        exit_unless_ended.start()
        with contextlib.suppress(RuntimeError):
            if dist.get_backend() == "nccl" and dist.group.WORLD is not None:
                dist.group.WORLD.abort()  # destroying it would wait for the others
            dist.destroy_process_group()
