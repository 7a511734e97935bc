"""The door to files: hashing, atomic writes, verification.

Artifacts are on a path that every node sees, or in a node's mirror of an object store (`edges/store`), which is sent what is
written here. A file becomes visible whole or not at all: it is written in the same folder under a unique temporary name and
renamed. Guarantee: `verify_files` finds any file that is missing, truncated or changed.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cpt_ray.edges import store
from cpt_ray.errors import ArtifactError
from cpt_ray.records import FileEntry

_CHUNK = 1 << 20


def hash_bytes(data: bytes) -> str:
    """The sha256 of `data`, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """The sha256 of a file, hexadecimal, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield a unique path next to `path`, for a caller that renames it to a name of its choice; it is removed otherwise.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        # In a folder that could not be created, the path is not a file either.
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path`, on failure it is removed.

    Raises:
        ArtifactError: If the folder, or the store that it mirrors, cannot be written.
    """
    with temporary_path(path) as temporary:
        yield temporary
        os.replace(temporary, path)
        store.push(path)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a whole file so that a reader sees either the old content or the new.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def unwritable(path: Path, error: OSError) -> ArtifactError:
    """The error for a path that cannot be written, with the system's reason."""
    return ArtifactError(
        f"{path}: cannot be written: {error.strerror or error}",
        fix="set study.root to a folder that this user can write to, with free disk space",
    )


def file_entry(root: Path, path: Path) -> FileEntry:
    """Describe a file under `root` by relative path, size and content hash."""
    return FileEntry(path=path.relative_to(root).as_posix(), size_bytes=path.stat().st_size, sha256=hash_file(path))


def move_durably(source: Path, target: Path) -> None:
    """Move a file to `target` and flush it to disk: a rename within one mount, else a copy whose source is then deleted."""
    try:
        # Tried, not looked up: two mounts of one disk have one device number, and a rename across them is refused.
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        sync(target)
        return
    with temporary_path(target) as copy:
        with source.open("rb") as reader, copy.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 16 * _CHUNK)
            writer.flush()
            os.fsync(writer.fileno())
        os.replace(copy, target)
    source.unlink()


def sync(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def listed_sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files below a folder on this machine, by relative path: a fraction of the cost of asking for each."""
    found: dict[str, int] = {}
    left = [str(folder)]
    start = len(left[0]) + 1
    while left:
        with contextlib.suppress(FileNotFoundError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif entry.is_file():
                    found[entry.path[start:]] = entry.stat().st_size
    return found


def verify_files(root: Path, files: Iterable[FileEntry], *, deep: bool, sizes: Mapping[str, int] | None = None) -> None:
    """Check files against their entries: existence and size, with `deep` the content hash as well.

    Of a root on a store, what the store has is checked; `deep` fetches it.

    Args:
        root: The folder that the entries are relative to.
        files: Their entries.
        deep: Whether content is checked too.
        sizes: Bytes of all files by relative path, if they were just listed.

    Raises:
        ArtifactError: Names the first file that contradicts its manifest.
    """
    fix = f"delete {store.address(root)} and re-run the same command; it will be rebuilt"
    stored = None if deep else sizes if sizes is not None else store.sizes(root)
    for entry in files:
        if stored is not None and stored.get(entry.path) == entry.size_bytes:
            continue
        path = store.fetched(root / entry.path) if deep else root / entry.path
        size = (path.stat().st_size if path.is_file() else None) if stored is None else stored.get(entry.path)
        if size is None:
            raise ArtifactError(f"{store.address(path)}: missing, but its manifest names it", fix=fix)
        if size != entry.size_bytes:
            raise ArtifactError(f"{path}: {size} bytes, but its manifest says {entry.size_bytes}", fix=fix)
        if deep:
            seen = hash_file(path)
            if seen != entry.sha256:
                raise ArtifactError(f"{path}: sha256 {seen[:12]}, but its manifest says {entry.sha256[:12]}", fix=fix)


def remove_tree(path: Path) -> None:
    """Delete a folder and everything in it, in the store too; it need not exist."""
    store.remove(path)
    shutil.rmtree(path, ignore_errors=True)


class FileHashes:
    """The sha256 of files; one that has not been touched since it was hashed is not read again.

    Args:
        root: The study's root, which holds the list of known hashes; None hashes every file.
    """

    FILE = "known_files.json"
    SETTLED_S = 2.0
    """A file that changed this shortly before it was hashed is hashed again: a change right after has the same time."""

    def __init__(self, root: Path | None) -> None:
        self._path = None if root is None else root / self.FILE
        self._known: dict[str, list[object]] = {}
        self._changed = False
        # A damaged list costs a read of the files, nothing else.
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self._path.read_text(encoding="utf-8")) if self._path else {}
            self._known = known if isinstance(known, dict) else {}

    def of(self, path: Path) -> str:
        """The sha256 of a file.

        Raises:
            ArtifactError: If it cannot be read.
        """
        try:
            stat = path.stat()
            seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
            known = self._known.get(str(path.absolute()))
            if isinstance(known, list) and known[1:] == seen:
                return str(known[0])
            settled = time.time() - max(stat.st_mtime, stat.st_ctime) > self.SETTLED_S
            found = hash_file(path)
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}", fix="check that the file is there and can be read") from None
        if settled:
            self._known[str(path.absolute())] = [found, *seen]
            self._changed = True
        return found

    def save(self) -> None:
        """Write the list into the root, if it is new."""
        if self._changed and self._path is not None:
            with temporary_path(self._path) as temporary:  # for this machine: a store is not sent its paths
                temporary.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
                os.replace(temporary, self._path)
