"""Decompress gzip, bz2 and xz files of any number of members, strictly; zstd goes through pyarrow.

In: a stream of compressed bytes. Out: a buffered stream. Python's own readers take whatever follows the last member of a bz2 or
xz file for padding, so that a damaged header in the middle of a file ends it without a word. Memory: two pieces.

Guarantee: every byte of the input is part of a member or zero padding behind one; anything else, and an end within a member, is
an error. Where a member ends without a newline is known to those who read lines.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import pyarrow as pa

_BUFFER = 1 << 20
_PIECE = 1 << 18


class _Gzip:
    """zlib's decompressor with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._engine = zlib.decompressobj(wbits=31)
        self._left = b""

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def needs_input(self) -> bool:
        return not self._left and not self.eof

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        plain = self._engine.decompress(self._left + data, max_length)
        self._left = self._engine.unconsumed_tail
        return plain


_ENGINES: dict[bytes, tuple[str, Callable[[], Any]]] = {
    b"\x1f\x8b\x08": ("gzip", _Gzip),
    b"BZh": ("bz2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
}
ZSTD = b"\x28\xb5\x2f\xfd"
MAGIC = (*_ENGINES, ZSTD)
"""The first bytes of what is decompressed."""


class _Members(io.RawIOBase):
    """The contents of all members of a compressed stream, one after another."""

    def __init__(self, stream: Any, magic: bytes) -> None:
        self._stream, self._magic = stream, magic
        self._name, self._engine = _ENGINES[magic]
        self._member = self._engine()
        self._ready = b""  # compressed bytes that no member has taken
        self._number = 1
        self._given = 0
        self._last = b""
        self.seams: deque[int] = deque()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        plain = b""
        while not plain:
            if self._member.eof and not self._next_member():
                return 0
            data = b""
            if self._member.needs_input:
                data, self._ready = self._ready or self._stream.read(_PIECE), b""
                if not data:
                    raise EOFError(f"ends within {self._name} member {self._number}")
            plain = self._decompressed(data, len(buffer))
        buffer[: len(plain)] = plain
        self._given += len(plain)
        self._last = plain[-1:]
        return len(plain)

    def _decompressed(self, data: bytes, size: int) -> bytes:
        try:
            return bytes(self._member.decompress(data, size))
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            raise OSError(f"{self._name} member {self._number}: {error}") from error

    def _next_member(self) -> bool:
        """Go to the next member; False at the end of the file."""
        rest = (self._member.unused_data + self._ready).lstrip(b"\0")
        while len(rest) < len(self._magic) and (more := self._stream.read(_PIECE)):
            rest = (rest + more).lstrip(b"\0")
        if not rest:
            return False
        if not rest.startswith(self._magic):
            raise OSError(f"{self._name} member {self._number} is followed by bytes that are no member, {rest[:8]!r}")
        if self._last not in (b"\n", b""):
            self.seams.append(self._given)
        self._member, self._ready = self._engine(), rest
        self._number += 1
        return True


class Unpacked(io.BufferedReader):
    """A decompressed stream.

    `seams` are the places, in decompressed bytes, where a member begins behind one that does not end with a newline. They are
    known as soon as the bytes in front of them are buffered.
    """

    def __init__(self, raw: Any) -> None:
        super().__init__(raw, _BUFFER)
        self.seams: deque[int] = getattr(raw, "seams", deque())


def unpack(stream: Any, magic: bytes) -> Unpacked:
    """Decompress a stream whose first bytes are one of `MAGIC`."""
    if magic == ZSTD:
        return Unpacked(pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd"))
    return Unpacked(_Members(stream, magic))
