"""One writer per study: a lease with an attempt number and a heartbeat.

The driver takes the lease and renews it from a thread. Its number travels with every training task, and every commit first
checks that the number is still current: tasks of a killed driver can live on for seconds and must not write into its
successor's run. It is in `edges` because both the study, which takes it, and training, which checks it, need it. For a root on
a store the lease is an object that is written on condition that nobody else has (`edges/store/conditional.py`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from cpt_ray.edges import store
from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import conditional
from cpt_ray.edges.store.conditional import ChangedError, Version
from cpt_ray.errors import CptRayError, LeaseError
from cpt_ray.records import Record

FILE = "lease.json"
HEARTBEAT_S = 5.0
STALE_S = 30.0
SETTLE_S = 0.3
"""Two drivers that start at once both find the lease free. The later write wins; the other driver sees it after this wait."""
STORE_SETTLE_S = 2.0
"""The same on a store that does not heed conditions, whose requests take longer."""


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
        ArtifactError: If a store refuses to say.
    """
    found = _read(path)
    return None if found is None else _parsed(path, found.data)


class Holder(NamedTuple):
    """Who has, or last had, a study's lease."""

    lease: Lease
    alive: bool
    """Whether its process runs, or for one on another host, whether it has renewed the lease within `STALE_S`."""
    renewed_s: float
    """Seconds since it last renewed it, by the clock of the store if the root is on one."""


def look_at_lease(root: Path) -> Holder | None:
    """Who holds the lease of a study, without taking it; None if nobody ever has.

    Raises:
        LeaseError: If the file is not a lease.
        ArtifactError: If a store refuses to say.
    """
    found = _read(root / FILE)
    if found is None:
        return None
    lease = _parsed(root / FILE, found.data)
    age = max(0.0, time.time() - lease.renewed) if found.age_s is None else found.age_s
    return Holder(lease, not lease.released and _alive(lease, found.age_s), age)


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
            f"attempt {attempt} may no longer write: {store.address(path)} is held by attempt "
            f"{newer.attempt if newer else 'none'}",
            fix="nothing to do: the newer driver continues from the last commit",
        )


@contextlib.contextmanager
def hold_lease(root: Path) -> Iterator[Lease]:
    """Take the study's lease, renew it while the body runs, and release it.

    A lease is taken over if it was released, if its process on this host is gone, or if another host has not renewed it for
    `STALE_S`, by the clock of the store if the root is on one.

    Raises:
        LeaseError: If another driver holds it.
        ArtifactError: If the root cannot be written.
    """
    path, place = root / FILE, store.address(root)
    if store.is_mirrored(root):
        conditional.probe(root)
    before = _read(path)
    held = None if before is None else _parsed(path, before.data)
    if before is not None and held is not None and not held.released and _alive(held, before.age_s):
        raise LeaseError(
            f"{place}: another driver is running this study (process {held.pid} on {held.host}, attempt {held.attempt})",
            fix="wait for it, stop it, or set study.root to another folder",
        )
    lease = Lease(
        attempt=held.attempt + 1 if held else 1,
        host=socket.gethostname(),
        pid=os.getpid(),
        process_start=psutil.Process().create_time(),  # process ids are reused; id and start time together are not
        renewed=time.time(),
    )
    try:
        mine = _write(path, lease, before)
        if mine.tag is None:
            time.sleep(STORE_SETTLE_S if store.is_mirrored(root) else SETTLE_S)
            settled = read_lease(path)
            if settled is None or (settled.host, settled.pid) != (lease.host, lease.pid):
                raise ChangedError(place)
    except ChangedError:
        raise LeaseError(
            f"{place}: another driver took this study at the same moment",
            fix="wait for it, stop it, or set study.root to another folder",
        ) from None
    keeper = _Keeper(path, lease, mine)
    keeper.start()
    try:
        yield lease
    finally:
        keeper.release()


class _Keeper(threading.Thread):
    """Renews a lease until it is released or lost."""

    def __init__(self, path: Path, lease: Lease, mine: Version) -> None:
        super().__init__(daemon=True, name="lease")
        self._path, self._lease, self._mine = path, lease, mine
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(HEARTBEAT_S):
            # A store or a shared disk may be away for a while; who takes over will be told apart.
            with contextlib.suppress(CptRayError, OSError):
                if not self._renew(released=False):
                    return

    def release(self) -> None:
        self._stop_asked.set()
        self.join()
        # What ended the study is said; a lease that is not released gets old.
        with contextlib.suppress(CptRayError, OSError):
            self._renew(released=True)

    def _renew(self, *, released: bool) -> bool:
        """Write the lease again, unless another driver has it."""
        if self._mine.tag is None and not self._is_mine():
            return False
        try:
            lease = self._lease.model_copy(update={"released": released, "renewed": time.time()})
            self._mine = _write(self._path, lease, self._mine)
        except ChangedError:
            # A request that was repeated after its first answer was lost has been overtaken by itself.
            return self._is_mine()
        return True

    def _is_mine(self) -> bool:
        found = _read(self._path)
        lease = None if found is None else _parsed(self._path, found.data)
        if found is None or lease is None or (lease.attempt, lease.host, lease.pid) != self._who:
            return False
        self._mine = found
        return True

    @property
    def _who(self) -> tuple[int, str, int]:
        return self._lease.attempt, self._lease.host, self._lease.pid


def _read(path: Path) -> Version | None:
    if store.is_mirrored(path):
        return conditional.read(path)
    try:
        return Version(path.read_bytes(), None, None)
    except FileNotFoundError:
        return None


def _write(path: Path, lease: Lease, before: Version | None) -> Version:
    if store.is_mirrored(path):
        return conditional.write(path, lease.to_json().encode(), before)
    write_atomic(path, lease.to_json())
    return Version(b"", None, None)


def _parsed(path: Path, data: bytes) -> Lease:
    try:
        return Lease.from_json(data)
    except ValueError as error:
        place = store.address(path)
        raise LeaseError(
            f"{place}: not a lease: {str(error).splitlines()[0]}",
            fix=f"make sure that no driver is running, then delete {place}",
        ) from None


def _alive(lease: Lease, age_s: float | None) -> bool:
    if lease.host == socket.gethostname():
        try:
            return abs(psutil.Process(lease.pid).create_time() - lease.process_start) < 1
        except psutil.NoSuchProcess:
            return False
    # Clocks of two hosts differ; that of the store is one.
    return (time.time() - lease.renewed if age_s is None else age_s) < STALE_S
