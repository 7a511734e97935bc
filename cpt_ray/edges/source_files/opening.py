"""Open listed files for reading bytes, decompressed, and ask for their current version.

Compression is known by the first bytes, not by the name: a `.gz` that a browser unpacked and a gzip file without a suffix are
both read. gzip, bz2, xz and zstd; all members or frames of a file.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec

from cpt_ray.edges.source_files import stores
from cpt_ray.edges.source_files.addresses import split_chain
from cpt_ray.edges.source_files.kinds import COMPRESSED, plain_name
from cpt_ray.edges.source_files.packed import MAGIC, ZSTD, Unpacked, unpack

stores.register()
_VERSIONS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "last_modified", "modified", "created")
_COMMIT = re.compile(r"^hf://[^:]+@[0-9a-f]{40}/")
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""A frame that zstd readers skip; pzstd begins its files with one."""
_BUFFER = 1 << 20
_BZ2_BLOCK = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")


def compression_of(head: bytes) -> bytes | None:
    """The magic bytes of the compression that a file begins with; None if it is not compressed."""
    magic = next((magic for magic in MAGIC if head.startswith(magic)), None)
    if magic is None and _SKIPPABLE.match(head):
        return ZSTD
    return None if magic == b"BZh" and not head[4:10].startswith(_BZ2_BLOCK) else magic


def is_local(path: str) -> bool:
    """Whether a listed path is a plain file on a local filesystem."""
    return ("://" not in path and "::" not in path) or (path.startswith("/") and os.path.isfile(path))


def source_version(path: str) -> str | None:
    """The current version of a listed file; None if it cannot change (a commit on the hub).

    Raises:
        FileNotFoundError: If the file is gone.
    """
    if _COMMIT.match(path):
        return None
    last = path if is_local(path) else split_chain(path)[-1]
    if is_local(last):
        # fsspec takes a third of a millisecond per file, and a corpus can have a hundred thousand small files.
        return f"{os.stat(last).st_mtime:.6f}"
    filesystem, inside = fsspec.core.url_to_fs(last)
    return version_of(filesystem.info(inside))


def version_of(info: Mapping[str, Any]) -> str:
    """The version in what a filesystem says about a file; empty if it says none."""
    value = next((info[key] for key in _VERSIONS if info.get(key) is not None), "")
    return f"{value:.6f}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def open_source(path: str) -> Iterator[Any]:
    """Open a listed file for reading bytes; compressed files are decompressed."""
    with contextlib.ExitStack() as stack:
        # A buffer that a `peek` for the first line of a file can be answered from.
        opened = Path(path).open("rb", buffering=_BUFFER) if is_local(path) else fsspec.open(path, mode="rb")  # noqa: SIM115
        raw = stack.enter_context(opened)
        yield unpacked(raw, plain_name(path))


def unpacked(stream: Any, name: str = "") -> Any:
    """A stream, decompressed if it is compressed, with a `peek` method."""
    stream = peekable(stream)
    head = stream.peek(16)[:16]
    magic = compression_of(head) or _cut_short(head, name)
    return stream if magic is None else unpack(stream, magic)


def _cut_short(head: bytes, name: str) -> bytes | None:
    """The compression of a file that is called compressed and ends within its magic bytes; reading it reports the loss."""
    if not head or not name.endswith(COMPRESSED):
        return None
    return next((magic for magic in MAGIC if magic != head and magic.startswith(head)), None)


def is_unpacked(stream: Any) -> bool:
    """Whether a stream of `open_source` decompresses a file."""
    return isinstance(stream, Unpacked)


def peekable(stream: Any) -> Any:
    """The stream with a `peek` method."""
    return stream if hasattr(stream, "peek") else io.BufferedReader(stream, _BUFFER)
