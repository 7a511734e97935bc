"""Terminal output: results on stdout, progress and warnings on stderr, and no progress bar that fills a log.

Guarantee: no credential of a URI and no control character gets through, wherever the text is from.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TextIO

from cpt_ray.edges.redaction import printable

_QUIET_S = 10.0


class TerminalConsole:
    """Prints results and steps to stdout; progress replaces itself on a terminal and appears every ten seconds elsewhere.

    Args:
        quiet: Print results, warnings and errors only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._transient = sys.stderr.isatty()
        self._shown = False
        self._last = 0.0
        self._lock = threading.RLock()
        """Runs that train and models that are scored report from several threads."""

    def say(self, text: str) -> None:
        """Print a result."""
        with self._lock:
            self._clear()
            print(_encodable(printable(text), sys.stdout), flush=True)

    def step(self, text: str) -> None:
        """Print what was done."""
        if not self._quiet:
            self.say(text)

    def warn(self, text: str) -> None:
        """Print a warning to stderr."""
        with self._lock:
            self._clear()
            print(f"  warning: {printable(text)}", file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        """Show a line that the next one replaces."""
        if not self._quiet:
            with self._lock:
                self._show(printable(text))

    def redraw(self, text: str) -> None:
        """Print a result in place of the one before; where there is no terminal, after it."""
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[H\x1b[2J")
        self.say(text)

    def _show(self, text: str) -> None:
        if self._transient:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[2K" + text[:width])
            sys.stderr.flush()
            self._shown = True
        elif time.monotonic() - self._last >= _QUIET_S:
            self._last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False


def _encodable(text: str, stream: TextIO) -> str:
    """`text` with escapes for what a terminal in a Latin or ASCII locale has no character for; stderr escapes these itself."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
