"""Lines for people and shells: results on stdout, progress on stderr, and a bar-free transient line on a terminal."""

from __future__ import annotations

import shutil
import sys
import time

_QUIET_S = 10.0


class TerminalConsole:
    """Prints lines that stay to stdout; progress replaces itself on a terminal and appears every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._transient = sys.stderr.isatty()
        self._shown = False
        self._last = 0.0

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(text, flush=True)

    def progress(self, text: str) -> None:
        """Show a line that the next one replaces."""
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
