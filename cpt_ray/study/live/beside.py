"""Score models while others train: bases at once, each export as soon as its run is committed.

A thread looks for scores whose inputs exist, and scores them in Ray tasks on what no group of training workers can need. When
training has ended it scores the rest with all that is there. With `runtime.kind: local` scoring comes after training.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.ray_runtime import cluster_address, cluster_may_grow, nodes_at_most, working_nodes
from cpt_ray.edges.store.lines import look_every_s
from cpt_ray.errors import problem_of
from cpt_ray.study import store
from cpt_ray.study.stages.evaluate import Scorer, ScoresNode
from cpt_ray.study.stages.stage import Node, Session
from cpt_ray.study.stages.train import RunNode
from cpt_ray.train.groups.room import parallel_groups, scoring_room

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def scoring_beside(scores: Sequence[ScoresNode], runs: Sequence[RunNode], session: Session) -> Iterator[None]:
    """Within, score models as they appear; on leaving, score those that are left.

    What is being scored when something is raised within is given up: the same command scores it again.

    Args:
        scores: The scores that the study needs.
        runs: Its runs, which have priority.
        session: Where it works.

    Raises:
        Exception: The error of the first model that could not be scored, once the others are.
    """
    missing = [node for node in scores if not store.is_whole(node)]
    # Where nothing is left to train there is nothing to score beside, and what is known is scored without Ray.
    if session.runtime.kind == "local" or not missing or all(store.exists(run) for run in runs):
        yield
        return
    session.need_ray()  # here, and not in two threads at once
    thread = _Beside(missing, runs, session)
    thread.start()
    try:
        yield
        thread.finish()
    finally:
        thread.stop()


class _Beside(threading.Thread):
    def __init__(self, scores: Sequence[ScoresNode], runs: Sequence[RunNode], session: Session) -> None:
        super().__init__(daemon=True)
        self._left, self._runs, self._session = list(scores), runs, session
        self._scorer = Scorer(session)
        self._stopping = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        every_s = look_every_s(self._left[0].folder)
        while not self._stopping.wait(every_s):
            try:
                self._add_those_that_exist()
                if self._scorer.busy:
                    self._scorer.look(self._room())
                self._error = None
            except Exception as error:  # raised by the driver, unless it was a bucket that was away for a while
                if self._error is None:
                    logger.warning("scoring beside training: %s; it is tried again", problem_of(error), exc_info=error)
                self._error = error

    def finish(self) -> None:
        """Score what is left, in the caller's thread."""
        self._stopping.set()
        self.join()
        self._add_those_that_exist()
        self._scorer.finish(self._session.runtime.evaluate_workers)

    def stop(self) -> None:
        """Give up what is being scored."""
        self._stopping.set()
        self.join()
        self._scorer.cancel()

    def _add_those_that_exist(self) -> None:
        ready = [node for node in self._left if all(store.exists(one) for one in node.inputs.values() if isinstance(one, Node))]
        for node in ready:
            logger.info("%s can be scored", node.label)
            self._scorer.add(node)
            self._left.remove(node)

    def _room(self) -> int:
        left = sum(not store.exists(run) for run in self._runs)
        return room_beside(self._session.runtime, left)


def room_beside(runtime: RuntimeConfig, runs: int) -> int:
    """How many models may be scored while that many runs are left to train."""
    nodes, private = working_nodes(runtime), cluster_address(runtime) is None
    at_most = nodes_at_most() if cluster_may_grow() else []
    groups, _ = parallel_groups(runtime, nodes, private=private, may_grow=bool(at_most), at_most=at_most)
    # A private Ray counts CPUs that are not there: scoring on them would slow training down.
    return scoring_room(runtime, at_most or nodes, groups=min(groups, runs), cores=os.cpu_count() if private else None)
