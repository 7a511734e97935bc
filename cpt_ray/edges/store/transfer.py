"""Between the mirror of a root on this node and its store: whole files, in either direction.

Guarantee: an object is written after the file is complete, and a file appears in the mirror whole, with the size that the store
has; a reader that finds a record therefore finds what was pushed before it. What several processes of a node want at once is
fetched once.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
from pyarrow import fs as arrow

from cpt_ray.edges.store import cache
from cpt_ray.edges.store.addresses import is_mirrored, url_of
from cpt_ray.edges.store.opening import CHUNK, ask, put
from cpt_ray.errors import ArtifactError

T = TypeVar("T")
INDEX = ".files.json"
"""Sizes and hashes of a folder's files, next to them, by who wrote them: who records an artifact need not read them again."""
_AT_ONCE = 16
_COPIED_BYTES = 5 * 10**9
"""S3 copies no larger object in one request."""


class Stored(NamedTuple):
    """An object: its size in bytes, and when it was written, in seconds since the epoch."""

    size_bytes: int
    written: float


def push(path: Path) -> None:
    """Send a complete file to the store; nothing for a path in no mirror.

    Raises:
        ArtifactError: If the store refuses it.
    """
    if is_mirrored(path):
        size = path.stat().st_size
        ask(url_of(path), "cannot be written", lambda filesystem, name: _upload(path, filesystem, name))
        cache.used(path)
        cache.make_room(path, size, there=True)


def push_folder(folder: Path, *, last: str = "") -> None:
    """Send the files of a folder, then an index of them; nothing for a folder in no mirror.

    Args:
        folder: The folder.
        last: Name of a file that is sent after all others: who sees it may rely on them.

    Raises:
        ArtifactError: If the store refuses one.
    """
    if not is_mirrored(folder):
        return
    at_once(push, [path for path in _complete(folder) if path != folder / last])
    push(write_index(folder))
    if last:
        push(folder / last)


def write_index(folder: Path) -> Path:
    """Write the index of a folder whose files are complete; its path."""
    paths = _complete(folder)
    entries = zip((path.relative_to(folder).as_posix() for path in paths), at_once(_described, paths), strict=True)
    index = folder / INDEX
    temporary = folder / f"{INDEX}.tmp"
    temporary.write_text(json.dumps(dict(entries)), encoding="utf-8")
    os.replace(temporary, index)
    return index


def _complete(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_temporary(path)]


def fetched(path: Path) -> Path:
    """The path, after its file was fetched into the mirror if it is not there; a missing object leaves it missing.

    Raises:
        ArtifactError: If the store refuses it, or this node has no room for it.
    """
    if not is_mirrored(path):
        return path
    path = Path(os.path.normpath(path))
    if path.exists():
        cache.used(path)
        return path
    with contextlib.suppress(FileNotFoundError):
        ask(url_of(path), "cannot be read", lambda filesystem, name: _download(path, filesystem, name))
    return path


def fresh(path: Path) -> Path:
    """`fetched`, of a file whose content changes: fetched again if the store has a newer one, deleted here if it has none.

    Raises:
        ArtifactError: If the store refuses it, or this node has no room for it.
    """
    if not is_mirrored(path):
        return path
    path = Path(os.path.normpath(path))
    try:
        found = ask(url_of(path), "cannot be read", _stored)
    except FileNotFoundError:
        path.unlink(missing_ok=True)
    else:
        refresh(path.parent, {path.name: found})
    return path


def part_of(path: Path, read: Callable[[pa.NativeFile], T]) -> T:
    """What `read` takes of a file that is handed to it: mapped if it is on this node, else in the store, with no more fetched.

    Raises:
        FileNotFoundError: If there is no such file.
        ArtifactError: If the store refuses it.
    """
    try:
        with pa.memory_map(str(path)) as source:
            return read(source)
    except FileNotFoundError:
        if not is_mirrored(path):
            raise

    def ask_for(filesystem: arrow.FileSystem, name: str) -> T:
        with filesystem.open_input_file(name) as source:
            return read(source)

    return ask(url_of(path), "cannot be read", ask_for)


def fetched_files(paths: Iterable[Path]) -> list[Path]:
    """`fetched` for many files, several at once."""
    return at_once(fetched, list(paths))


def fetched_folder(folder: Path, *patterns: str) -> Path:
    """The folder, after the files that match a glob were fetched, all if none is given; what changed is fetched again.

    Raises:
        ArtifactError: If the store refuses one.
    """
    if is_mirrored(folder):
        fetched_names(folder, *patterns)
    return folder


def fetched_names(folder: Path, *patterns: str) -> list[str]:
    """Fetch the files of a mirrored folder that match a glob, as `fetched_folder` does; their names in the store."""
    found = listing(folder)
    names = [name for name in found if any(matches(name, one) for one in patterns or ("**/*",))]
    refresh(folder, {name: found[name] for name in names})
    return names


def refresh(folder: Path, found: Mapping[str, Stored]) -> None:
    """Fetch the listed files of a folder that are not here, or are older here than in the store."""

    def fetch(name: str) -> None:
        path = folder / name
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            ask(url_of(path), "cannot be read", lambda filesystem, key: _download(path, filesystem, key, found[name]))

    stale = [name for name in found if not _is_current(folder / name, found[name])]
    for name in found.keys() - stale:
        cache.used(folder / name)
    at_once(fetch, stale)


def matches(name: str, pattern: str) -> bool:
    """Whether a relative path matches a glob as `Path.glob` reads it: `*` stays within a folder, `**/` is any depth."""
    return _compiled(pattern).fullmatch(name) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    depths = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("**/"))
    return re.compile("(?:.*/)?".join(depths))


def listing(folder: Path) -> dict[str, Stored]:
    """The objects below a mirrored folder by relative name.

    Raises:
        ArtifactError: If the store refuses.
    """

    def look(filesystem: arrow.FileSystem, name: str) -> dict[str, Stored]:
        selector = arrow.FileSelector(name, recursive=True, allow_not_found=True)
        found = (info for info in filesystem.get_file_info(selector) if info.type == arrow.FileType.File)
        return {
            info.path[len(name) + 1 :]: Stored(info.size, info.mtime.timestamp() if info.mtime else 0.0)
            for info in found
            if info.path.startswith(f"{name}/")
        }

    return ask(url_of(folder), "cannot be listed", look)


def sizes(folder: Path) -> dict[str, int] | None:
    """Bytes of the objects below a folder by relative name; None if it is in no mirror."""
    return {name: one.size_bytes for name, one in listing(folder).items()} if is_mirrored(folder) else None


def exists(path: Path) -> bool:
    """Whether a file exists: in the store if its path is mirrored, whatever the mirror holds.

    Raises:
        ArtifactError: If the store refuses to say.
    """
    if not is_mirrored(path):
        return path.exists()

    def look(filesystem: arrow.FileSystem, name: str) -> bool:
        # Of a missing object, asking for its facts also lists what begins with its name.
        with contextlib.suppress(FileNotFoundError), filesystem.open_input_file(name):
            return True
        return False

    return ask(url_of(path), "cannot be looked up", look)


def remove(path: Path) -> None:
    """Delete the object of a path, or all below it; the mirror is left alone.

    Raises:
        ArtifactError: If the store refuses.
    """
    if not is_mirrored(path):
        return

    def delete(filesystem: arrow.FileSystem, name: str) -> None:
        kind = filesystem.get_file_info(name).type
        if kind == arrow.FileType.File:
            filesystem.delete_file(name)
        elif kind == arrow.FileType.Directory:
            filesystem.delete_dir_contents(name, missing_dir_ok=True)

    with contextlib.suppress(FileNotFoundError):
        ask(url_of(path), "cannot be deleted", delete)


def copy(source: Path, target: Path, size_bytes: int) -> None:
    """Copy an object to another path of the same mirror: within the store, or through this node if it is too large for that.

    Raises:
        ArtifactError: If the store refuses, or this node has no room for it.
    """
    if size_bytes <= _COPIED_BYTES:
        name = url_of(source).partition("://")[2]
        ask(url_of(target), "cannot be written", lambda filesystem, to: filesystem.copy_file(name, to))
        return
    with contextlib.suppress(OSError):
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(fetched(source), target)
    push(target)


def sync_files(folder: Path, names: Iterable[str]) -> None:
    """Make files of a mirrored folder those of the store: changed ones are fetched again, missing ones deleted here."""
    if is_mirrored(folder):
        found = listing(folder)
        wanted = set(names)
        refresh(folder, {name: one for name, one in found.items() if name in wanted})
        for name in wanted - found.keys():
            (folder / name).unlink(missing_ok=True)


def forget_unsent(folder: Path, found: Mapping[str, Stored], *, but: Iterable[str] = ()) -> None:
    """Delete from the mirror what the store does not have: left there by a process that was killed, or since deleted there.

    Args:
        folder: A folder in which no process writes now.
        found: Its objects.
        but: Globs of files to leave.
    """
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in found and not any(matches(name, one) for one in but):
            path.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a file is one of those that are renamed when they are whole, or an index."""
    return path.name == INDEX or (path.name.startswith(".") and path.name.endswith(".tmp"))


def at_once(call: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
    """Call a function for each argument, some in parallel; the results in order, or the first error."""
    if len(arguments) < 2:
        return [call(one) for one in arguments]
    with ThreadPoolExecutor(min(_AT_ONCE, len(arguments))) as pool:
        return list(pool.map(call, arguments))


def known_entries(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name, and size and hash of the files that indexes below a folder describe; `names` are those of its objects."""
    for index in (name for name in names if name.rsplit("/", 1)[-1] == INDEX):
        below = index[: -len(INDEX)]
        for name, entry in json.loads(fetched(folder / index).read_bytes()).items():
            yield f"{below}{name}", entry


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return {"size_bytes": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _upload(path: Path, filesystem: arrow.FileSystem, name: str) -> None:
    size = path.stat().st_size
    with path.open("rb") as source:
        put(filesystem, name, source)
    if size > CHUNK and (found := filesystem.get_file_info(name).size) != size:
        raise OSError(f"{found} of {size} bytes arrived")


def _download(path: Path, filesystem: arrow.FileSystem, name: str, known: Stored | None = None) -> None:
    known = known or _stored(filesystem, name)
    # Processes that begin together want the same base, tokenizer and index: one fetches it, and all map the same pages.
    with _room_needed(path, known.size_bytes), cache.locked(path.with_name(f".{path.name}.lock.tmp")):
        if not _is_current(path, known):
            _download_alone(path, filesystem, name, known)


def _is_current(path: Path, found: Stored) -> bool:
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_size == found.size_bytes and stat.st_mtime >= found.written
    return False


def _download_alone(path: Path, filesystem: arrow.FileSystem, name: str, known: Stored) -> None:
    cache.make_room(path, known.size_bytes)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as target:
            _copy(filesystem, name, target)
            seen = target.tell()
        # It may have been written again since it was listed.
        if seen != known.size_bytes and seen != (known := _stored(filesystem, name)).size_bytes:
            raise OSError(f"{seen} of {known.size_bytes} bytes arrived")
        os.utime(temporary, (max(known.written, 1.0), max(known.written, 1.0)))
        os.replace(temporary, path)
        cache.used(path)
    finally:
        temporary.unlink(missing_ok=True)


def _stored(filesystem: arrow.FileSystem, name: str) -> Stored:
    filesystem.open_input_file(name).close()  # as in `exists`: most of those that are asked for again and again are missing
    info = filesystem.get_file_info(name)
    if info.type != arrow.FileType.File:
        raise FileNotFoundError(name)
    return Stored(info.size, info.mtime.timestamp() if info.mtime else 0.0)


def _copy(filesystem: arrow.FileSystem, name: str, target: Any) -> None:
    with filesystem.open_input_stream(name, compression=None) as source:
        while chunk := source.read(CHUNK):
            target.write(chunk)


@contextlib.contextmanager
def _room_needed(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in cache.FULL:
            raise
        free = shutil.disk_usage(next(one for one in path.parents if one.exists())).free
        raise ArtifactError(
            f"{path}: this node's copy of {url_of(path)} takes {size / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free",
            fix="free space there, or set runtime.scratch to a folder on a larger local disk",
        ) from error
