"""Google's storage, emulated in memory at a port of this machine: `google_server.py PORT`, where the emulator is installed.

As it comes it serves one connection after another, and waits for ever for pyarrow, which leaves a download open while it begins
the next. Here each connection has a thread, and the emulator's own code runs in one at a time.
"""

import functools
import http.server
import sys
import threading
from collections.abc import Callable
from typing import Any

from gcp_storage_emulator import server

_lock = threading.RLock()


def one_at_a_time(handle: Callable[..., Any]) -> Callable[..., Any]:
    """The same, under the lock."""

    @functools.wraps(handle)
    def handle_alone(*arguments: Any, **named: Any) -> Any:
        with _lock:
            return handle(*arguments, **named)

    return handle_alone


server.server.HTTPServer = http.server.ThreadingHTTPServer
server.HANDLERS = tuple((path, {verb: one_at_a_time(one) for verb, one in verbs.items()}) for path, verbs in server.HANDLERS)
emulator = server.create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="studies")
emulator.start()
threading.Event().wait()
