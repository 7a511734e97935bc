"""Say that Ray's control service (its GCS, on the head node) is gone, before Ray waits for ever or ends the driver in silence.

Measured with Ray 2.60: when the service was killed, `ray.nodes` does not return, and after 60 s Ray ends the driver with exit
code 1 and no word on what to do; when it hangs, everything that asks it waits without a limit. Training workers do not need it
from step to step, so they are asked to save first. Knows no Ray: what to ask is handed to it.

    0 s   the last answer
    30 s  said; the main thread gets a SIGINT: training saves and stops, anything else is interrupted
    45 s  whatever has not ended by then is ended: the process may be inside a call that never returns
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from cpt_ray.errors import CptRayError

logger = logging.getLogger(__name__)
EVERY_S = 2.0
ANSWER_S = 5.0
"""How long one question may take; a busy head answers late."""
LOST_S = 30.0
"""A control service that keeps its state (with Redis) is back within this time."""
_LEAST = 3
"""Questions without an answer: this process may have been stopped itself, with one of them on its way."""
END_S = 45.0
"""Ray ends the driver at 60 s."""


class ControlServiceWatch(threading.Thread):
    """Asks every `EVERY_S`; started and ended by `watched`.

    Args:
        address: Of the service, for the message.
        ask: Called with seconds; raises if the service does not answer within them.
    """

    def __init__(self, address: str, ask: Callable[[float], object]) -> None:
        super().__init__(daemon=True, name="control-service")
        self._address, self._ask = address, ask
        self._answered = time.monotonic()
        self._left = threading.Event()
        self._interrupts = threading.current_thread() is threading.main_thread()
        self.error: CptRayError | None = None
        """Set when it is lost."""

    def run(self) -> None:
        """Ask until `leave`, or end this process."""
        failed = 0
        while not self._left.wait(EVERY_S):
            if self._answers():
                failed = 0
                continue
            silent_s, failed = time.monotonic() - self._answered, failed + 1
            if silent_s >= LOST_S and failed >= _LEAST and self.error is None:
                self._lose(silent_s)
                logger.warning("%s; what trains saves a checkpoint, then the command ends", self.error and self.error.problem)
                if self._interrupts:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if silent_s >= END_S and self.error is not None:
                sys.stderr.write(f"\ncpt-ray: {self.error}\n")
                sys.stderr.flush()
                os._exit(CptRayError.exit_code)

    def leave(self) -> None:
        """Ask no more."""
        self._left.set()

    def require_it(self, error: BaseException) -> None:
        """Raise that it was lost, or does not answer now, in place of an error that then follows from that.

        Raises:
            CptRayError: If so.
        """
        if self.error is None and not self._answers():
            self._lose(time.monotonic() - self._answered)
        if self.error is not None:
            raise self.error from error

    def _answers(self) -> bool:
        try:
            self._ask(ANSWER_S)
        except Exception as error:  # of whatever kind: it has not answered
            logger.info("the control service at %s does not answer: %s", self._address, error)
            return False
        self._answered = time.monotonic()
        return True

    def _lose(self, silent_s: float) -> None:
        self.error = CptRayError(
            f"Ray's control service at {self._address} has not answered for {silent_s:.0f} s: the head node, its process "
            "gcs_server or the network to it is gone",
            fix="start the cluster again if it is gone (a private Ray starts by itself), then re-run the same command to "
            "resume from the last checkpoint",
        )


@contextlib.contextmanager
def watched(address: str, ask: Callable[[float], object]) -> Iterator[ControlServiceWatch]:
    """Watch the control service while the body runs, its end included: leaving a cluster asks it too."""
    watch = ControlServiceWatch(address, ask)
    watch.start()
    try:
        yield watch
    finally:
        watch.leave()
