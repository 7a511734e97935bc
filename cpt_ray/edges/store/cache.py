"""How much of a store a node keeps: shards, text, weights and checkpoints that were used longest ago make room for others.

Only files that every reader fetches again when they are gone, that no one has used for `GRACE_S`, and that the store has, are
deleted. A file that is open or mapped stays readable until it is closed. Last use is the file's access time, set here, so that
processes of a node need no common record; who reads files of a folder for longer marks it (`in_use`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pyarrow import fs as arrow

from cpt_ray.edges.store.addresses import MARK, url_of
from cpt_ray.edges.store.opening import ask
from cpt_ray.errors import ArtifactError

LIMIT = "CPT_RAY_CACHE_BYTES"
"""Environment variable: most bytes of evictable files that a node keeps; `runtime.cache` sets it."""
FULL = (errno.ENOSPC, errno.EDQUOT)
GRACE_S = 60.0
_EVICTABLE = (".arrow", ".parquet", ".pt", ".safetensors")
_IN_USE = ".in-use"
"""Folder of the marks of a node's processes."""
_SPARE_SHARE = 0.05
"""Of the disk, left free where no limit is set."""
_LOOK_BYTES = 1 << 28
"""Files are counted again after this many new bytes: walking the mirror for each small file would cost more than it."""

_lock = threading.Lock()
_added_since: dict[Path, int] = {}


def used(path: Path) -> None:
    """Remember that a file is used now."""
    if path.suffix in _EVICTABLE:
        with contextlib.suppress(OSError):
            os.utime(path, (time.time(), path.stat().st_mtime))


def kept_bytes(path: Path) -> int:
    """Bytes in the mirrors that hold a path which would make room for others."""
    return sum(stat.st_size for _, stat in _by_last_use(_base_of(path)))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """Hold a lock that no two processes or threads of a node hold at once, by a file that is there as long as it is held.

    A process that is killed lets go of it.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not _is_file(stream, path):  # another one held it, and has deleted it
                continue
            try:
                yield stream
            finally:
                path.unlink(missing_ok=True)
            return


def _is_file(stream: IO[bytes], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


@contextlib.contextmanager
def in_use(*folders: str | Path | None) -> Iterator[None]:
    """Within, nothing below these folders is deleted from this node; nothing for what is in no mirror."""
    paths = [Path(os.path.normpath(folder)) for folder in folders if folder is not None]
    mirrored = [str(path) for path in paths if MARK in path.parts]
    if not mirrored:
        yield
        return
    with locked(_base_of(Path(mirrored[0])) / _IN_USE / f"{os.getpid()}-{secrets.token_hex(4)}") as stream:
        stream.write(json.dumps(mirrored).encode())
        stream.flush()
        yield


def _marked(base: Path) -> list[str] | None:
    """The folders that processes use; None if one is just saying so."""
    found: list[str] = []
    for mark in (base / _IN_USE).glob("*"):
        with contextlib.suppress(FileNotFoundError), mark.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not (said := stream.read()):
                    return None
                found += json.loads(said)
            else:
                mark.unlink(missing_ok=True)  # of a process that was killed
    return found


def _base_of(path: Path) -> Path:
    return Path(*path.parts[: path.parts.index(MARK) + 1])


def make_room(path: Path, size: int, *, there: bool = False) -> None:
    """Delete files used longest ago until the node keeps to its limit.

    Args:
        path: A file of the mirror.
        size: Its bytes.
        there: Whether they are there; else they are about to be fetched.
    """
    base = _base_of(path)
    with _lock:
        since = _added_since.get(base)
        limit = int(os.environ.get(LIMIT, "0"))
        if since is not None and since + size < min(_LOOK_BYTES, limit // 8 if limit else _LOOK_BYTES):
            _added_since[base] = since + size
            return
        _added_since[base] = 0
        kept = _by_last_use(base)
        too_many = _excess(base, sum(one.st_size for _, one in kept), 0 if there else size, limit)
        if too_many <= 0 or (marked := _marked(base)) is None:
            return
        for file, stat in kept:
            if too_many <= 0:
                return
            if _is_free(file, stat, marked) and _is_stored(file, stat.st_size):
                with contextlib.suppress(OSError):
                    file.unlink()
                    too_many -= stat.st_size


def _is_free(file: Path, stat: os.stat_result, marked: list[str]) -> bool:
    return time.time() - stat.st_atime > GRACE_S and not any(str(file).startswith(f"{folder}/") for folder in marked)


def _by_last_use(base: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for folder, _, names in os.walk(base):
        for name in names:
            if name.endswith(_EVICTABLE):
                with contextlib.suppress(OSError):
                    file = Path(folder) / name
                    found.append((file, file.stat()))
    return sorted(found, key=lambda entry: entry[1].st_atime)


def _excess(base: Path, kept: int, size: int, limit: int) -> int:
    if limit:
        return kept + size - limit
    if not base.exists():
        return 0
    disk = shutil.disk_usage(base)
    return int(disk.total * _SPARE_SHARE) + size - disk.free


def _is_stored(file: Path, size: int) -> bool:
    """Whether the store has the file: what was not sent yet exists here only."""

    def look(filesystem: arrow.FileSystem, name: str) -> bool:
        info = filesystem.get_file_info(name)
        return bool(info.type == arrow.FileType.File and info.size == size)

    with contextlib.suppress(ArtifactError):  # of another study's bucket, whose credentials this process need not have
        return ask(url_of(file), "cannot be looked up", look)
    return False
