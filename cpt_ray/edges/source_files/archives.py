"""Read the members of tar and zip archives, one after another, in one pass.

In: an open archive. Out: `Member`s in the archive's own order, each with a stream that is valid until the next is asked for.
Memory: one entry per member of a zip; none for tar. A compressed tar is decompressed once, front to back.

Guarantee: every regular member is given, or has a kind under which it is left out: `hidden`, `link`, `encrypted`.
"""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from cpt_ray.edges.source_files.kinds import COMPRESSED, is_hidden, plain_name

_SHORT = {".tgz": ".tar", ".tbz2": ".tar", ".tbz": ".tar", ".txz": ".tar", ".tzst": ".tar"}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A member of an archive: its name, size in bytes, stream, and the kind under which it is left out, if it is."""

    name: str
    size_bytes: int
    stream: Any
    left_out: str | None = None


def archive_kind(path: str) -> Literal["tar", "zip"] | None:
    """Whether a file is read as an archive, by its name; members of archives are not."""
    name = plain_name(path).lower()
    if path.startswith(("zip://", "tar://")):
        return None
    for short, long in _SHORT.items():
        name = f"{name.removesuffix(short)}{long}" if name.endswith(short) else name
    for packed in COMPRESSED:
        name = name.removesuffix(packed)
    return "tar" if name.endswith(".tar") else "zip" if name.endswith(".zip") else None


def members(stream: Any, kind: Literal["tar", "zip"]) -> Iterator[Member]:
    """The members of an open, decompressed archive; folders are passed over."""
    yield from _tar(stream) if kind == "tar" else _zip(stream)


def _tar(stream: Any) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            if info.isfile():
                yield Member(info.name, info.size, archive.extractfile(info), _hidden(info.name))
            elif not info.isdir():
                yield Member(info.name, 0, None, "link" if info.islnk() or info.issym() else "special")
            archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header; a corpus can have a million members


def _zip(stream: Any) -> Iterator[Member]:
    with tempfile.TemporaryFile() as copy:
        if not stream.seekable():
            while chunk := stream.read(_CHUNK):
                copy.write(chunk)
            stream = copy
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                kind = "encrypted" if info.flag_bits & 1 else _hidden(info.filename)
                if kind is not None:
                    yield Member(info.filename, info.file_size, None, kind)
                    continue
                with archive.open(info) as inside:
                    yield Member(info.filename, info.file_size, inside)


def _hidden(name: str) -> str | None:
    return "hidden" if any(is_hidden(part) for part in PurePosixPath(name).parts if part != ".") else None
