"""The door to files: hashing, atomic writes, verification.

Artifacts live on a path that every node sees. A file becomes visible whole or not at all: it is written beside its place
under an attempt-unique name and renamed. Guarantee: `verify_files` finds any file that is missing, cut or changed.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from cpt_ray.errors import ArtifactError
from cpt_ray.records import FileEntry

_CHUNK = 1 << 20


def hash_bytes(data: bytes) -> str:
    """The sha256 of `data`, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """The sha256 of a file, hexadecimal, read once in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path`, on failure it is removed.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a whole file so that a reader sees the old content or the new, never a part.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def unwritable(path: Path, error: OSError) -> ArtifactError:
    """The error for a place that cannot be written, with the system's reason."""
    return ArtifactError(
        f"{path}: cannot be written: {error.strerror or error}",
        fix="set study.root to a folder that this user may write, with free disk space",
    )


def file_entry(root: Path, path: Path) -> FileEntry:
    """Describe a file under `root` by relative path, size and content hash."""
    return FileEntry(path=path.relative_to(root).as_posix(), size_bytes=path.stat().st_size, sha256=hash_file(path))


def move_durably(source: Path, target: Path) -> None:
    """Bring a file to `target` and to the disk under it: renamed on one filesystem, else copied and the source deleted."""
    if source.stat().st_dev == target.parent.stat().st_dev:
        os.replace(source, target)
        sync(target)
        return
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 16 * _CHUNK)
        writer.flush()
        os.fsync(writer.fileno())
    source.unlink()


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify_files(root: Path, files: Iterable[FileEntry], *, deep: bool) -> None:
    """Check files against their entries: always existence and size, with `deep` the content hash too.

    Raises:
        ArtifactError: Naming the first file that contradicts its manifest.
    """
    fix = f"delete {root} and run the same command again; it is made anew"
    for entry in files:
        path = root / entry.path
        if not path.is_file():
            raise ArtifactError(f"{path}: missing, but its manifest names it", fix=fix)
        size = path.stat().st_size
        if size != entry.size_bytes:
            raise ArtifactError(f"{path}: {size} bytes, but its manifest says {entry.size_bytes}", fix=fix)
        if deep:
            seen = hash_file(path)
            if seen != entry.sha256:
                raise ArtifactError(f"{path}: sha256 {seen[:12]}, but its manifest says {entry.sha256[:12]}", fix=fix)


def remove_tree(path: Path) -> None:
    """Delete a folder if it is there."""
    shutil.rmtree(path, ignore_errors=True)
