"""List the files that a path names, on any filesystem.

In: a path as written in the study file. Out: a `Listing`. Memory: one entry per file.

Guarantee: files come sorted by path, and each has the version that `source_version` compares later.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import fsspec

from cpt_ray.edges.source_files.addresses import Address, odd_scheme, parse_address, shown
from cpt_ray.edges.source_files.answers import first_answer, fix_of, is_refusal
from cpt_ray.edges.source_files.kinds import is_hidden
from cpt_ray.edges.source_files.local import LeftOut, SourceFile, expand_local, is_pattern, leads_into, parts_named, parts_of
from cpt_ray.edges.source_files.opening import version_of
from cpt_ray.errors import CptRayError, DataError


class Listing(NamedTuple):
    """What a path names: files to read, what is left out, and whether the path is a folder."""

    files: list[SourceFile]
    left_out: list[LeftOut]
    is_folder: bool


def list_source_files(uri: str) -> list[SourceFile]:
    """The files of `list_files`.

    Raises:
        DataError: See `list_files`.
    """
    return list_files(uri).files


def list_files(uri: str) -> Listing:
    """Expand a file, a folder, a pattern or a URL, sorted by path. Members of archives keep their `::` chain.

    Raises:
        DataError: If nothing matches, the form of the path is not read, or the filesystem cannot be reached.
    """
    address = parse_address(uri)
    listing = Listing(*expand_local(address.uri)) if address.is_local else _remote(address)
    if listing.files:
        return listing
    if listing.left_out:
        first = listing.left_out[0]
        raise DataError(
            f"{shown(uri)}: names no file that is read; {len(listing.left_out)} left out, such as {first.path} ({first.kind})",
            fix="give a path or pattern that names files with text; to read hidden files, name them in the pattern (`.*`)",
        )
    if address.is_local and os.path.isdir(address.uri):
        raise DataError(f"{shown(uri)}: holds no file", fix="give a folder with files, or a pattern that names some")
    if address.is_local and (scheme := odd_scheme(uri)):
        fix = f"if {scheme} is meant as a scheme, write {scheme}//; what is read is in docs/data.md"
        raise DataError(f"{shown(uri)}: no such file", fix=fix)
    where = (
        "relative paths start at the working directory" if address.is_local else "its bucket or host may not be there either"
    )
    raise DataError(f"{shown(uri)}: no such file", fix=f"check the path or glob of this source; {where}")


def would_list(uri: str, folder: str) -> bool:
    """Whether `uri` could name files that are written later to a local folder, or below a prefix in a bucket.

    Raises:
        DataError: If the form of the path is not read.
    """
    address = parse_address(uri)
    if address.is_local and "://" not in folder:
        return leads_into(parts_named(address.uri), parts_of(os.path.realpath(folder)))
    if len(address.links) > 1 or address.scheme != folder.partition("://")[0]:
        return False
    return leads_into([*parts_of(address.uri), *([] if is_pattern(address.uri) else ["**"])], parts_of(folder))


def _remote(address: Address) -> Listing:
    try:
        if not address.links[-1].startswith(("http://", "https://")):  # which have limits of their own
            first_answer(lambda: _ask(address))
        filesystem, path = fsspec.core.url_to_fs(address.uri)
        found, is_folder = _found(filesystem, path, address)
    except FileNotFoundError:
        return Listing([], [], is_folder=False)
    except CptRayError:
        raise
    except Exception as error:  # each filesystem has errors of its own
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{shown(address.uri)}: cannot be listed: {problem}", fix=fix_of(problem)) from error
    return _listing(found, is_folder, address)


def _ask(address: Address) -> None:
    """Ask for what stands before the first character of a pattern: quick, however much there is to list."""
    filesystem, path = fsspec.core.url_to_fs(address.links[-1])
    parts = path.split("/")
    plain = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    try:
        filesystem.info("/".join(parts[:plain]) or "/")
    except FileNotFoundError:
        return
    except OSError as error:  # who may read objects need not be allowed to ask about their bucket
        if not is_refusal(str(error)):
            raise


def _found(filesystem: Any, path: str, address: Address) -> tuple[Mapping[str, Mapping[str, Any]], bool]:
    """What a filesystem has under a path: the file itself, all files of a folder, or what a pattern matches."""
    try:
        info = filesystem.info(path)
    except FileNotFoundError:
        if address.is_http or not is_pattern(path):
            raise
        return filesystem.glob(path, detail=True), False
    if info["type"] != "directory":
        return {path: info}, False
    return filesystem.find(path, detail=True), True


def _listing(found: Mapping[str, Mapping[str, Any]], is_folder: bool, address: Address) -> Listing:
    chain = address.links[1:]
    scheme = "" if address.is_http else f"{address.scheme}://"
    container = _container_version(chain[-1]) if chain else None
    files, left_out = [], []
    asked = set(address.links[0].split("/"))
    for path, info in sorted(found.items()):
        full = "::".join([f"{scheme}{path.lstrip('/') if chain else path}", *chain])
        size = int(info.get("size") or 0)
        if info["type"] == "directory":
            left_out.append(LeftOut(full, "folder", 0))
        elif not address.is_http and any(is_hidden(part) and part not in asked for part in path.split("/")):
            left_out.append(LeftOut(full, "hidden", size))
        else:
            files.append(SourceFile(full, size, container if container is not None else version_of(info)))
    return Listing(sorted(files), left_out, is_folder)


def _container_version(link: str) -> str:
    filesystem, inside = fsspec.core.url_to_fs(link)
    return version_of(filesystem.info(inside))
