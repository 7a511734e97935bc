"""Read the members of tar and zip archives, one after another, in one pass.

In: an open archive. Out: `Member`s in the archive's own order, each with a stream that is valid until the next is asked for.
Memory: one entry per member of a zip; none for tar. A compressed tar is decompressed once, front to back.

Guarantee: every regular member is given, or has a kind under which it is left out: `hidden`, `link`, `encrypted`,
`unsupported`. Tars that were appended to one another are read to the last; one that does not end as tars do, and a zip with
another in front of it, are errors: what they lack cannot be told.
"""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from cpt_ray.edges.source_files.kinds import COMPRESSED, decoded_name, is_hidden, plain_name

_SHORT = {".tgz": ".tar", ".tbz2": ".tar", ".tbz": ".tar", ".txz": ".tar", ".tzst": ".tar"}
_CHUNK = 1 << 20
_ReadError, _HeaderError = tarfile.ReadError, tarfile.HeaderError
_ZEROS, _NOTHING = tarfile.EOFHeaderError, tarfile.EmptyHeaderError  # type: ignore[attr-defined]
_LOCAL_FILE = b"PK\x03\x04"


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


class StrictHeader(tarfile.TarInfo):
    """A header that fails where Python's tar reader would take damage, or a missing end, for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> StrictHeader:
        """The next header."""
        try:
            found = super().fromtarfile(tarfile)
        except _ZEROS:
            tarfile.ended = True
            raise
        except _NOTHING as error:
            if getattr(tarfile, "ended", False):
                raise
            raise _ReadError(
                "the end-of-archive blocks are missing: the archive was cut between members, or its writer was not closed"
            ) from error
        except _HeaderError as error:
            raise _ReadError(f"no header at byte {tarfile.offset}: {error}") from error
        tarfile.ended = False
        return found


def _tar(stream: Any) -> Iterator[Member]:
    # Blocks of zeros end an archive; behind them another one may be appended.
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=StrictHeader, ignore_zeros=True) as archive:
        for info in archive:
            name = decoded_name(info.name)
            if info.isfile():
                yield Member(name, info.size, archive.extractfile(info), _hidden(name))
            elif not info.isdir():
                yield Member(name, 0, None, "link" if info.islnk() or info.issym() else "special")
            archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header; a corpus can have a million members


def _zip(stream: Any) -> Iterator[Member]:
    with tempfile.TemporaryFile() as copy:
        if not stream.seekable():
            while chunk := stream.read(_CHUNK):
                copy.write(chunk)
            stream = copy
        with zipfile.ZipFile(stream) as archive:
            check_beginning(archive)
            for info in archive.infolist():
                if info.is_dir():
                    continue
                kind = "encrypted" if info.flag_bits & 1 else _hidden(info.filename)
                try:
                    inside = None if kind else archive.open(info)
                except NotImplementedError:  # a method or a feature that Python does not have
                    inside, kind = None, "unsupported"
                yield Member(info.filename, info.file_size, inside, kind)
                if inside is not None:
                    inside.close()


def check_beginning(archive: zipfile.ZipFile) -> None:
    """Refuse zips that were appended to one another: their directory, at the end, names the members of the last only.

    Raises:
        zipfile.BadZipFile: If the file begins with a member that is not in the directory.
    """
    first = min((info.header_offset for info in archive.infolist()), default=0)
    stream: Any = archive.fp
    stream.seek(0)
    if first and stream.read(len(_LOCAL_FILE)) == _LOCAL_FILE:
        raise zipfile.BadZipFile(f"the first {first} bytes are members that its directory does not name")


def _hidden(name: str) -> str | None:
    return "hidden" if any(is_hidden(part) for part in PurePosixPath(name).parts if part != ".") else None
