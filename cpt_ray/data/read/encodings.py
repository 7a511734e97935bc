"""Any encoding of text to UTF-8, which is what the readers read.

Part of stage `read`; runs in a worker. In: a stream and `encoding` of a source. Out: a stream of UTF-8 and the name of what it
was made from. A byte-order mark decides over the setting. Memory: one piece of a file; with `auto`, files are read once more.

Guarantee: bytes that are not text in the encoding come out as bytes that are not UTF-8, which readers reject and count.
"""

from __future__ import annotations

import codecs
import io
from typing import Any

from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.source_files import peekable

UTF_8 = "utf-8"
_PIECE = 1 << 16
_SAMPLE = 1 << 16
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte-order mark stands for; None if there is no mark."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def detect_encoding(stream: Any) -> str:
    """The encoding of a stream, which is read to its end if it is UTF-8.

    The detector (charset-normalizer) sees the text around the first bytes that are not UTF-8. Where it names a code page of
    Western Europe, Windows-1252 is taken if it fits: browsers do the same, and a short text does not tell them apart.
    """
    decoder = codecs.getincrementaldecoder(UTF_8)()
    before = b""
    while piece := stream.read(_PIECE):
        try:
            decoder.decode(piece)
        except UnicodeDecodeError:
            return _detected(before + piece + stream.read(_SAMPLE))
        before = piece
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _detected(before)
    return UTF_8


def _detected(sample: bytes) -> str:
    with needed_for("encoding: auto, and text that is not UTF-8,"):
        from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    if best is None:
        return UTF_8
    # One byte per character: Cyrillic and the like have most letters above 127, Western European text few.
    high = sum(byte > 127 for byte in sample) / max(len(sample), 1)
    single = len(best.encoding) > 0 and best.encoding.startswith(("cp", "latin", "iso", "mac", "hp_"))
    if single and high < 0.15 and not _multibyte(best.encoding):
        try:
            sample.decode("cp1252")
        except UnicodeDecodeError:
            return str(best.encoding)
        return "cp1252"
    return str(best.encoding)


def _multibyte(name: str) -> bool:
    return name in ("cp932", "cp949", "cp950") or name.startswith("iso2022")


def as_utf8(stream: Any, encoding: str) -> tuple[Any, str]:
    """The stream as UTF-8, and the encoding it was in.

    Args:
        stream: A stream with `peek`.
        encoding: A codec of Python, not `auto`.
    """
    found = marked_encoding(stream.peek(4)[:4]) or encoding
    if codecs.lookup(found).name == UTF_8:
        return stream, UTF_8
    return io.BufferedReader(_Utf8(stream, found)), found


class _Utf8(io.RawIOBase):
    """A stream of another encoding, read as UTF-8."""

    def __init__(self, stream: Any, encoding: str) -> None:
        # The codecs of UTF-16 and UTF-32 cannot carry single bytes through; what they cannot read ends the file as damaged.
        wide = encoding.replace("_", "-").startswith(("utf-16", "utf-32"))
        self._errors = "surrogatepass" if wide else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=self._errors)
        self._stream, self._encoding = stream, encoding
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            piece = self._stream.read(_PIECE)
            self._ended = not piece
            try:
                text = self._decoder.decode(piece, final=self._ended)
            except UnicodeDecodeError as error:
                raise OSError(f"not {self._encoding}: {error.reason}") from error
            self._ready = text.encode(errors=self._errors)
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def wrapped(data: bytes) -> Any:
    """Bytes in memory as a stream with `peek`."""
    return peekable(io.BufferedReader(io.BytesIO(data)))
