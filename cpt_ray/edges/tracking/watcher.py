"""A process that waits beside the driver, and ends the study's runs in MLflow if the driver dies without doing so.

A driver that is killed, by a user, a scheduler or the system's out-of-memory killer, cannot tell MLflow, whose UI then shows
runs as running forever. The process does nothing while the driver lives and imports MLflow only if it must: it holds 10 MB.

In: orders as JSON lines on stdin, each replacing the one before (never as arguments, which other users can read: a tracking
URI may hold a password). Guarantee: after the driver's death, however it came, the runs that it left RUNNING are KILLED within
seconds, as far as the tracking server can be reached. A machine that dies takes this process with it; the study's next command
that mirrors then corrects them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping

_POLL_S = 1.0
_DONE = {"done": True}


class Watcher:
    """The driver's end of the process."""

    def __init__(self) -> None:
        # A session of its own: a signal to the driver's group must not reach it.
        command = [sys.executable, "-m", "cpt_ray.edges.tracking.watcher"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True, text=True
        )

    def watch(self, uri: str, experiment: str, parent: str) -> None:
        """Say which study to end."""
        self._send({"uri": uri, "experiment": experiment, "parent": parent, "driver": os.getpid()})

    def close(self) -> None:
        """Dismiss the process: the driver has ended the runs itself."""
        self._send(_DONE)
        self._process.wait()

    def _send(self, order: Mapping[str, object]) -> None:
        # A watcher that someone ended protects nothing, and stops nothing either.
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(order) + "\n")
                self._process.stdin.flush()


def wait_for_death() -> dict[str, object] | None:
    """Read orders until the driver is gone or says that it is done.

    Returns:
        The last order if the driver is gone; None if there is nothing to do.
    """
    order: dict[str, object] | None = None
    begun = b""
    while True:
        # The parent process as well as the pipe: a child that the driver forked would hold the pipe open.
        if order is not None and os.getppid() != order["driver"]:
            return order
        if not select.select([sys.stdin], [], [], _POLL_S)[0]:
            continue
        # Not `readline`: it takes all that has arrived, and `select` does not see the orders that wait in its buffer.
        if not (arrived := os.read(sys.stdin.fileno(), 1 << 16)):
            return order
        *lines, begun = (begun + arrived).split(b"\n")
        for found in map(json.loads, lines):
            if found == _DONE:
                return None
            order = found


def main() -> None:
    """Run the process."""
    order = wait_for_death()
    if order is None:
        return
    from cpt_ray.edges.tracking.client import connect, end_running

    end_running(connect(str(order["uri"])), str(order["experiment"]), str(order["parent"]), "KILLED")


if __name__ == "__main__":
    main()
