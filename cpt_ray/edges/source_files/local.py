"""Expand a local path: a file, a folder, or a pattern with `*`, `?`, `[...]` and `**`.

Symbolic links are followed, to files and to folders. In each part of a pattern, a name that exists as it stands wins over its
reading as a pattern. Memory: one entry per file.

Guarantee: every regular file that is named is listed, or left out under a kind: `hidden`, `folder`, `special` (pipes, sockets,
devices), `loop` (a link to a folder that contains it), `name_not_utf8`. A dangling link and an unreadable folder are errors.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from cpt_ray.edges.source_files.kinds import decoded_name, is_hidden
from cpt_ray.errors import DataError

_MAGIC = re.compile(r"[*?\[]")


class SourceFile(NamedTuple):
    """A raw file: path, size in bytes, and a version that its filesystem changes on every write.

    `version` is an ETag or a modification time; for a member of an archive that of the archive; empty if a filesystem has
    neither. `size_bytes` is 0 for a URL whose server does not say.
    """

    path: str
    size_bytes: int
    version: str


class LeftOut(NamedTuple):
    """A file that a path names and that is not read, with the kind of reason."""

    path: str
    kind: str
    size_bytes: int


Found = SourceFile | LeftOut


def is_pattern(path: str) -> bool:
    """Whether a path has characters of a pattern."""
    return _MAGIC.search(path) is not None


def expand_local(path: str) -> tuple[list[SourceFile], list[LeftOut], bool]:
    """List what a local path names.

    Returns:
        Files by path, what is left out, and whether the path is a folder.

    Raises:
        DataError: At a dangling link, a folder that cannot be read, or a `**` that is not a whole part of the path.
    """
    absolute = os.path.abspath(path)
    if os.path.isdir(absolute):
        found: Iterator[Found] = _tree(absolute, _ancestors(absolute))
        folder = True
    else:
        parts = absolute.strip("/").split("/")
        if any("**" in part and part != "**" for part in parts):
            raise DataError(f"{path}: '**' is only read as a whole part of a path", fix="write **/*.txt, for example")
        found, folder = _expand("/", parts, ()), False
    every = sorted(set(found))
    left_out = [item._replace(path=decoded_name(item.path)) for item in every if isinstance(item, LeftOut)]
    return [item for item in every if isinstance(item, SourceFile)], left_out, folder


def parts_named(path: str) -> list[str]:
    """The parts of a local path as `leads_into` compares them: links followed up to the first pattern, `**` for a folder."""
    absolute = os.path.abspath(path)
    if os.path.isdir(absolute):
        return [*parts_of(os.path.realpath(absolute)), "**"]
    parts = parts_of(absolute)
    plain = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return [*parts_of(os.path.realpath("/" + "/".join(parts[:plain]))), *parts[plain:]]


def parts_of(path: str) -> list[str]:
    """The parts of a path; none of the root."""
    return [part for part in path.split("/") if part]


def leads_into(parts: list[str], folder: list[str]) -> bool:
    """Whether a pattern could name files below a folder, both in parts."""
    for number, part in enumerate(parts):
        if part == "**":
            return not any(is_hidden(name) for name in folder[number:])
        if number == len(folder):
            return is_pattern(part)
        if part != folder[number] and not (is_pattern(part) and fnmatch.fnmatchcase(folder[number], part)):
            return False
    return False


def _expand(base: str, parts: list[str], inside: tuple[tuple[int, int], ...]) -> Iterator[Found]:
    """What the rest of a pattern names below a folder; `inside` are the folders that `**` went through."""
    part, rest = parts[0], parts[1:]
    here = os.path.join(base, part)
    if os.path.lexists(here) or not is_pattern(part):
        if not rest:
            yield from _entry(here, named=True) if os.path.lexists(here) else ()
        elif os.path.isdir(here):
            yield from _expand(here, rest, inside)
        return
    if part == "**":
        yield from _anywhere(base, parts, inside or _ancestors(base))
        return
    matches = re.compile(fnmatch.translate(part.replace("[^", "[!"))).match
    for name in filter(matches, _names(base)):
        here = os.path.join(base, name)
        if is_hidden(name) and not part.startswith((".", "_")):
            yield LeftOut(here, "hidden", _size(here))
        elif not rest:
            yield from _entry(here)
        elif os.path.isdir(here):
            yield from _expand(here, rest, inside)


def _anywhere(base: str, parts: list[str], inside: tuple[tuple[int, int], ...]) -> Iterator[Found]:
    if parts[1:]:
        # A folder that matches the last part holds files that match elsewhere; it is no file that was left out.
        yield from (item for item in _expand(base, parts[1:], inside) if not _is_folder(item))
    for name in _names(base):
        here = os.path.join(base, name)
        if os.path.isdir(here):
            if is_hidden(name):
                yield LeftOut(here, "hidden", 0)
            elif _identity(here) in inside:
                yield LeftOut(here, "loop", 0)
            else:
                yield from _anywhere(here, parts, (*inside, _identity(here)))
        elif not parts[1:]:
            yield LeftOut(here, "hidden", _size(here)) if is_hidden(name) else _entry_one(here)


def _is_folder(item: Found) -> bool:
    return isinstance(item, LeftOut) and (item.kind == "folder" or (item.kind == "hidden" and os.path.isdir(item.path)))


def _tree(folder: str, inside: tuple[tuple[int, int], ...]) -> Iterator[Found]:
    for name in _names(folder):
        here = os.path.join(folder, name)
        if is_hidden(name):
            yield LeftOut(here, "hidden", _size(here))
        elif not os.path.isdir(here):
            yield _entry_one(here)
        elif _identity(here) in inside:
            yield LeftOut(here, "loop", 0)
        else:
            yield from _tree(here, (*inside, _identity(here)))


def _entry(path: str, *, named: bool = False) -> Iterator[Found]:
    if os.path.isdir(path):
        # A folder that is named as it stands is read like one; one that a pattern happens to match is not.
        yield from _tree(path, _ancestors(path)) if named else (LeftOut(path, "folder", 0),)
    else:
        yield _entry_one(path)


def _entry_one(path: str) -> Found:
    try:
        status = os.stat(path)
    except OSError as error:
        if os.path.islink(path):
            raise DataError(
                f"{path}: a link to {os.readlink(path)}, which is not there: {error.strerror}",
                fix="repair or remove the link; a copied cache needs the files that its links point to",
            ) from error
        raise DataError(f"{path}: cannot be read: {error.strerror}", fix="check its permissions") from error
    if not stat.S_ISREG(status.st_mode):
        return LeftOut(path, "special", 0)
    if decoded_name(path) != path:  # no record could hold it
        return LeftOut(path, "name_not_utf8", status.st_size)
    return SourceFile(path, status.st_size, f"{status.st_mtime:.6f}")


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except NotADirectoryError:
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}", fix="check its permissions") from error


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _ancestors(folder: str) -> tuple[tuple[int, int], ...]:
    """The folder and all above it: a link to one of them would never end."""
    real = os.path.realpath(folder)
    above = [real]
    while (parent := os.path.dirname(above[-1])) != above[-1]:
        above.append(parent)
    return tuple(_identity(path) for path in above)


def _size(path: str) -> int:
    return os.stat(path).st_size if os.path.isfile(path) else 0
