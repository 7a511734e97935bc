"""Stop and continue processes, for benchmarks whose sides take turns."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable

import psutil


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to all that still exist."""
    for one in processes:
        try:
            os.kill(one.pid, number)
        except ProcessLookupError:
            continue


def stop_all(alive: Callable[[], Iterable[psutil.Process]]) -> None:
    """Stop all processes that `alive` returns, and any they started in the meantime."""
    stopped: set[psutil.Process] = set()
    while new := set(alive()) - stopped:
        send(new, signal.SIGSTOP)
        stopped |= new
