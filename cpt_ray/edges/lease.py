"""One writer per study: a lease file with an attempt number and a heartbeat.

The driver takes the lease and renews it from a thread. Its number travels with every training task, and every commit first
checks that the number is still current: tasks of a killed driver can live on for seconds and must not write into its
successor's run. It is in `edges` because both the study, which takes it, and training, which checks it, need it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import LeaseError
from cpt_ray.records import Record

FILE = "lease.json"
HEARTBEAT_S = 5.0
STALE_S = 30.0
_SETTLE_S = 0.3
"""Two drivers that start at once both find the lease free. The later write wins; the other driver sees it after this wait."""


class Lease(Record):
    """The content of the lease file."""

    attempt: int
    host: str
    pid: int
    process_start: float
    renewed: float
    """Seconds since the epoch."""
    released: bool = False


def read_lease(path: Path) -> Lease | None:
    """The lease at `path`; None if there is no file.

    Raises:
        LeaseError: If the file is not a lease.
    """
    try:
        return Lease.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LeaseError(
            f"{path}: not a lease: {str(error).splitlines()[0]}", fix=f"make sure that no driver is running, then delete {path}"
        ) from None


def may_commit(path: Path, attempt: int) -> bool:
    """Whether the driver with attempt number `attempt` still holds the lease."""
    lease = read_lease(path)
    return lease is not None and lease.attempt == attempt


def require_lease(path: Path, attempt: int) -> None:
    """Refuse a commit of an older attempt.

    Raises:
        LeaseError: If another driver has taken over the study.
    """
    if not may_commit(path, attempt):
        newer = read_lease(path)
        raise LeaseError(
            f"attempt {attempt} may no longer write: {path} is held by attempt {newer.attempt if newer else 'none'}",
            fix="nothing to do: the newer driver continues from the last commit",
        )


@contextlib.contextmanager
def hold_lease(root: Path) -> Iterator[Lease]:
    """Take the study's lease, renew it while the body runs, and release it.

    A lease is taken over if it was released, if its process on this host is gone, or if another host has not renewed it for
    `STALE_S`.

    Raises:
        LeaseError: If another driver holds it.
    """
    path = root / FILE
    held = read_lease(path)
    if held is not None and not held.released and _alive(held):
        raise LeaseError(
            f"{root}: another driver is running this study (process {held.pid} on {held.host}, attempt {held.attempt})",
            fix="wait for it, stop it, or set study.root to another folder",
        )
    lease = Lease(
        attempt=held.attempt + 1 if held else 1,
        host=socket.gethostname(),
        pid=os.getpid(),
        process_start=psutil.Process().create_time(),  # process ids are reused; id and start time together are not
        renewed=time.time(),
    )
    write_atomic(path, lease.to_json())
    time.sleep(_SETTLE_S)
    settled = read_lease(path)
    if settled is None or (settled.host, settled.pid) != (lease.host, lease.pid):
        raise LeaseError(
            f"{root}: another driver took this study at the same moment",
            fix="wait for it, stop it, or set study.root to another folder",
        )
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, lease, stop), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        if may_commit(path, lease.attempt):
            write_atomic(path, lease.model_copy(update={"released": True, "renewed": time.time()}).to_json())


def _renew(path: Path, lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        if not may_commit(path, lease.attempt):
            return
        write_atomic(path, lease.model_copy(update={"renewed": time.time()}).to_json())


def _alive(lease: Lease) -> bool:
    if lease.host == socket.gethostname():
        try:
            return abs(psutil.Process(lease.pid).create_time() - lease.process_start) < 1
        except psutil.NoSuchProcess:
            return False
    return time.time() - lease.renewed < STALE_S
