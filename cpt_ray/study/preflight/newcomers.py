"""Nodes that join a cluster while a study is at work, asked as the others were before it began.

An autoscaler adds most nodes of a cloud's cluster after a command has begun. One that is not fit is known seconds after it has
come, when its first tasks may have begun; the main thread then gets a SIGINT, as if by Ctrl-C: training saves and stops,
anything else is interrupted, and the error with the table takes the interrupt's place.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Collection, Iterator

from cpt_ray.edges.ray_runtime import cluster_nodes, joined
from cpt_ray.errors import ConfigError
from cpt_ray.study.preflight.nodes import Judged, refusal

logger = logging.getLogger(__name__)
EVERY_S = 5.0
_LEAVE_S = 10.0
"""For a question on its way when the study ends: Ray must not be left in the middle of it."""


class NewcomerWatch(threading.Thread):
    """Looks for new nodes every `EVERY_S`; started and ended by `newcomers_asked`.

    Args:
        known: The nodes that have been asked, by Ray's ids.
        judge: Asks the nodes of these ids, and says what is wrong on each.
    """

    def __init__(self, known: Collection[str], judge: Callable[[Collection[str]], Judged]) -> None:
        super().__init__(daemon=True, name="newcomers")
        self._known, self._judge = set(known), judge
        self._silent: set[str] = set()
        """Nodes that were said not to answer."""
        self._left = threading.Event()
        self._interrupts = threading.current_thread() is threading.main_thread()
        self.error: ConfigError | None = None
        """Set when a node that has joined is not fit for the study."""

    def run(self) -> None:
        """Ask who is new until `leave`, or until one is not fit."""
        while self.error is None and not self._left.wait(EVERY_S) and joined():
            try:
                self._ask_newcomers()
            except Exception:  # of whatever kind: what Ray cannot do now it may in a moment, or its loss is said elsewhere
                logger.info("nodes that have joined could not be asked", exc_info=True)
        if self.error is not None:
            logger.warning("%s; what trains saves a checkpoint, then the command ends", self.error.problem)
            if self._interrupts:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def leave(self) -> None:
        """Ask no more."""
        self._left.set()
        self.join(_LEAVE_S)

    def _ask_newcomers(self) -> None:
        new = {node.id for node in cluster_nodes()} - self._known
        if not new:
            return
        found = self._judge(new)
        # One that has not answered is asked again: it may still be starting.
        for node in (node for node, _ in found if node.facts is None and node.node.id not in self._silent):
            logger.warning("node %s has joined and does not answer: see Ray's logs there; it is asked again", node.name)
            self._silent.add(node.node.id)
        found = [(node, wrong) for node, wrong in found if node.facts is not None]
        self._known |= {node.node.id for node, _ in found}
        self.error = refusal(found)
        if found and self.error is None:
            logger.info("joined and ready: %s", ", ".join(node.name for node, _ in found))


@contextlib.contextmanager
def newcomers_asked(known: Collection[str], judge: Callable[[Collection[str]], Judged]) -> Iterator[NewcomerWatch]:
    """Ask the nodes that join while the body runs; takes the arguments of `NewcomerWatch`.

    Raises:
        ConfigError: With a table, if one is not fit for the study: in place of the error that ends the body.
    """
    watch = NewcomerWatch(known, judge)
    watch.start()
    try:
        yield watch
    except BaseException as error:  # the interrupt, or what followed from the node
        if watch.error is not None:
            raise watch.error from error
        raise
    finally:
        watch.leave()
