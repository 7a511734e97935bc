"""Progress as plain lines, for scripts and notebooks: no escape sequence, no line that replaces another.

Guarantee: no credential of a URI and no control character gets through.
"""

from __future__ import annotations

import sys
import threading
import time

from cpt_ray.edges.redaction import printable

_QUIET_S = 10.0


class PlainConsole:
    """Prints results and steps to stdout, warnings to stderr, and progress at most every ten seconds."""

    def __init__(self) -> None:
        self._last = 0.0
        self._lock = threading.Lock()
        """Runs that train and models that are scored report from several threads."""

    def say(self, text: str) -> None:
        """Print a result."""
        self._print(printable(text), is_error=False)

    def step(self, text: str) -> None:
        """Print what was done."""
        self.say(text)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._print(f"  warning: {printable(text)}", is_error=True)

    def progress(self, text: str) -> None:
        """Print where the work is, if nothing was said of it for ten seconds."""
        if time.monotonic() - self._last >= _QUIET_S:
            self._last = time.monotonic()
            self._print(printable(text), is_error=False)

    def _print(self, text: str, *, is_error: bool) -> None:
        # Looked up at each line: a notebook replaces both streams for each cell.
        stream = sys.stderr if is_error else sys.stdout
        with self._lock:
            stream.write(f"{text}\n")
            stream.flush()
