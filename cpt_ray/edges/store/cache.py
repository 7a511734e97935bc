"""How much of a store a node keeps: shards and text that were read longest ago make room for what is read next.

Only files that every reader fetches again when they are gone, that no one has used for `GRACE_S`, and that the store has, are
deleted. A file that is open or mapped stays readable until it is closed. Last use is the file's access time, set here, so that
processes of a node need no common record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from pathlib import Path

from pyarrow import fs as arrow

from cpt_ray.edges.store.addresses import MARK, url_of
from cpt_ray.edges.store.opening import ask
from cpt_ray.errors import ArtifactError

LIMIT = "CPT_RAY_CACHE_BYTES"
"""Environment variable: most bytes of evictable files that a node keeps; `runtime.cache` sets it."""
FULL = (errno.ENOSPC, errno.EDQUOT)
GRACE_S = 60.0
_EVICTABLE = (".arrow", ".parquet")
_SPARE_SHARE = 0.05
"""Of the disk, left free where no limit is set."""
_LOOK_BYTES = 1 << 28
"""Files are counted again after this many fetched bytes: walking the mirror for each small file would cost more than it."""

_lock = threading.Lock()
_fetched_since: dict[Path, int] = {}


def used(path: Path) -> None:
    """Remember that a file is used now."""
    if path.suffix in _EVICTABLE:
        with contextlib.suppress(OSError):
            os.utime(path, (time.time(), path.stat().st_mtime))


def kept_bytes(path: Path) -> int:
    """Bytes in the mirrors that hold a path which would make room for others."""
    return sum(stat.st_size for _, stat in _by_last_use(_base(path)))


def make_room(path: Path, size: int) -> None:
    """Before `size` bytes are fetched to `path`: delete files used longest ago until the node keeps to its limit."""
    base = _base(path)
    with _lock:
        since = _fetched_since.get(base)
        limit = int(os.environ.get(LIMIT, "0"))
        if since is not None and since + size < min(_LOOK_BYTES, limit // 8 if limit else _LOOK_BYTES):
            _fetched_since[base] = since + size
            return
        _fetched_since[base] = 0
        kept = _by_last_use(base)
        too_many = _excess(base, sum(one.st_size for _, one in kept), size, limit)
        for file, stat in kept:
            if too_many <= 0:
                return
            if time.time() - stat.st_atime > GRACE_S and _is_stored(file, stat.st_size):
                with contextlib.suppress(OSError):
                    file.unlink()
                    too_many -= stat.st_size


def _base(path: Path) -> Path:
    return Path(*path.parts[: path.parts.index(MARK) + 1])


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
