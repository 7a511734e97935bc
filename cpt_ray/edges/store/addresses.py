"""Which path of this node is which object of a store, and back.

    s3://BUCKET/PREFIX/shards/x      <cache>/cpt-ray-roots/s3/BUCKET/PREFIX/shards/x

`<cache>` is `CPT_RAY_CACHE` where the node sets it, else `runtime.scratch`, else the system's temporary folder; below it a
folder per user. A path that comes from another node is read as the same object below this node's cache.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cpt_ray.errors import ArtifactError

MARK = "cpt-ray-roots"
CACHE = "CPT_RAY_CACHE"
"""Environment variable: this node's folder for mirrors, if it is not the same on every node."""


def is_remote(root: str) -> bool:
    """Whether a root names an object store."""
    return "://" in root


def is_mirrored(path: Path) -> bool:
    """Whether a path lies in the mirror of a store."""
    return MARK in path.parts


def mirror_of(url: str, scratch: str | None = None) -> Path:
    """The path of an object, or of all below a prefix, on this node.

    Args:
        url: `scheme://bucket/key`.
        scratch: The folder for mirrors if the node does not say.

    Raises:
        ArtifactError: If the folder belongs to another user, or cannot be made.
    """
    scheme, _, rest = url.partition("://")
    return _own_folder(scratch) / scheme / rest.strip("/")


def url_of(path: Path) -> str:
    """The object of a mirrored path.

    Raises:
        ValueError: If the path is in no mirror.
    """
    parts = Path(os.path.normpath(path)).parts
    scheme, *rest = parts[parts.index(MARK) + 1 :]
    return f"{scheme}://{'/'.join(rest)}"


def address(path: Path) -> str:
    """A path for records and messages: that of the object if it is mirrored."""
    return url_of(path) if is_mirrored(path) else str(path)


def here(path: str | Path, *, beside: Path | None = None) -> Path:
    """A path of any node, or an address, as a path of this one; what is in no mirror stays as it is.

    Args:
        path: The path or the address.
        beside: A path in the mirror that an address is looked up in; without one, that of `mirror_of`.
    """
    text = str(path)
    if is_remote(text) and beside is not None:
        scheme, _, rest = text.partition("://")
        return Path(*beside.parts[: beside.parts.index(MARK) + 1], scheme, rest)
    if is_remote(text):
        return mirror_of(text)
    path = Path(text)
    if not is_mirrored(path) or CACHE not in os.environ:
        return path
    return _own_folder(None).joinpath(*path.parts[path.parts.index(MARK) + 1 :])


@contextlib.contextmanager
def private_mirrors() -> Iterator[None]:
    """Within, this process has mirrors of its own, which are deleted at the end.

    For who reads a study that others on this machine may be writing: two processes that join the segments of a file in one
    mirror would append them twice.
    """
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory(prefix="cpt-ray-reads-") as folder:
        os.environ[CACHE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[CACHE]
            else:
                os.environ[CACHE] = before


def _own_folder(scratch: str | None) -> Path:
    """The folder of this user's mirrors; others may not write there, because checkpoints are unpickled."""
    base = Path(os.environ.get(CACHE) or scratch or tempfile.gettempdir()).absolute() / f"cpt-ray-{os.getuid()}"
    fix = f"set runtime.scratch, or {CACHE} on the node, to a folder on a local disk that you own"
    try:
        base.mkdir(parents=True, mode=0o700, exist_ok=True)
        if base.is_symlink() or base.stat().st_uid != os.getuid():
            raise ArtifactError(f"{base}: belongs to another user", fix=fix)
    except OSError as error:
        raise ArtifactError(f"{base}: cannot hold a node's copy of the study: {error.strerror or error}", fix=fix) from error
    return base / MARK
