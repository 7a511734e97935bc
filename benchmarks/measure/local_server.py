"""A server process at a free port of this machine, for as long as a body runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_START_S = 120


@contextlib.contextmanager
def local_server(
    command: Callable[[int], Sequence[str | Path]], *, health: str, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a server; gives its address.

    Args:
        command: Port to command line.
        health: Path that it answers once it is up.
        environment: Variables added to this process's.

    Raises:
        AssertionError: If the server ends, or does not answer within two minutes.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = subprocess.DEVNULL
    variables = {**os.environ, **(environment or {})}
    server = subprocess.Popen(command(port), stdout=quiet, stderr=quiet, env=variables, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}{health}", server)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            if server.poll() is not None:
                raise AssertionError(f"the server of {url} ended with code {server.returncode}") from None
            time.sleep(0.5)
    raise AssertionError(f"{url} did not answer within {_START_S} s")
