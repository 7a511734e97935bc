"""Any encoding of text to UTF-8, which is what the readers read.

Part of stage `read`; runs in a worker. In: a stream and `encoding` of a source. Out: a stream of UTF-8 and the name of what it
was made from. A byte-order mark decides over the setting. Memory: one piece of a file; with `auto`, files are read once more.

Guarantee: bytes that are not text in the encoding come out as bytes that are not UTF-8, which readers reject and count.
"""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from typing import Any, NamedTuple

from cpt_ray.data.read.decoding.code_pages import best_code_page
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

_WIDE = (("utf-32-le", 4, (1, 2, 3)), ("utf-32-be", 4, (0, 1, 2)), ("utf-16-le", 2, (1,)), ("utf-16-be", 2, (0,)))
"""Encodings with the bytes of a character and the places of its upper bytes."""
_ESCAPES = {b"\x1b$B": "iso2022_jp_2", b"\x1b$@": "iso2022_jp_2", b"\x1b$)C": "iso2022_kr"}
_FEWEST_ZEROS = 50
_MOST_BLOCKS = 8
_HIGH = re.compile("[^\x00-\x7f]+")
_FEWEST_WHOLE = 4
_LIKELY = 0.75
_CLEAR = 0.05
_FEWEST_ODD = 100


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte-order mark stands for; None if there is no mark."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


class Encoding(NamedTuple):
    """The name of an encoding, and whether it is known or the likeliest of several."""

    name: str
    is_sure: bool = True

    @property
    def shown(self) -> str:
        """The name as it is counted: with a question mark where it may be another."""
        return self.name if self.is_sure else f"{self.name}?"


def detect_encoding(stream: Any, *, most_bytes: int | None = None) -> Encoding:
    """The encoding of a stream, which is read to its end, or to a number of bytes, if it is UTF-8.

    UTF-16 and UTF-32 without a mark are known by their zero bytes, ISO-2022 by its escapes. Otherwise the text around the first
    bytes that are not UTF-8 decides: code pages of Latin scripts by the alphabets of languages, all others by a detector
    (charset-normalizer).
    """
    decoder = codecs.getincrementaldecoder(UTF_8)()
    before, taken = b"", 0
    while piece := stream.read(_PIECE):
        if not before and (found := _wide(piece) or _escaped(piece)) is not None:
            return Encoding(found)
        try:
            decoder.decode(piece)
        except UnicodeDecodeError:
            return _detected(before + piece + stream.read(_SAMPLE))
        before, taken = piece, taken + len(piece)
        if most_bytes is not None and taken >= most_bytes:
            return Encoding(UTF_8)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _detected(before)
    return Encoding(UTF_8)


def is_wide(encoding: str) -> bool:
    """Whether an encoding has zero bytes in ordinary text."""
    return encoding.replace("_", "-").startswith(("utf-16", "utf-32"))


def _wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, of a script with an alphabet: its characters have few upper bytes, zero first."""
    if marked_encoding(sample[:4]) is not None or sample.count(0) * _FEWEST_ZEROS < len(sample):
        return None
    for name, width, places in _WIDE:
        units = sample[: len(sample) // width * width]
        upper = [set(units[place::width]) for place in places]
        if width == 4 and any(not values <= {0, 1} for values in (upper[1:] if places[0] else upper[:2])):
            continue  # two characters of UTF-16
        lower = units[(width - 1 if 0 in places else 0) :: width]
        if units and 0 not in lower and all(len(values) <= _MOST_BLOCKS for values in upper):
            return name
    return None


def _escaped(sample: bytes) -> str | None:
    for escape, name in _ESCAPES.items():
        if escape in sample:
            return name
    return None


def _detected(sample: bytes) -> Encoding:
    with needed_for("encoding: auto, and text that is not UTF-8,"):
        from charset_normalizer import from_bytes

    whole = sum(len(run) > 1 for run in _HIGH.findall(sample.decode(errors="ignore")))
    if whole >= _FEWEST_WHOLE and sample.decode(errors="replace").count("\ufffd") * _FEWEST_WHOLE < whole:
        return Encoding(UTF_8)  # with a few damaged bytes
    matches = from_bytes(sample)
    best = matches.best()
    if best is None or _has_one_byte(best.encoding):
        latin = best_code_page(sample)
        if latin is not None and latin.share >= _LIKELY:
            return Encoding(latin.name, latin.is_sure)
    if best is None or (is_wide(best.encoding) and not _is_text(sample, best.encoding)):
        return Encoding(UTF_8)
    clear = all(other.chaos > best.chaos + _CLEAR for other in matches if str(other) != str(best))
    return Encoding(str(best.encoding), best.coherence > 0 or (clear and best.chaos < _CLEAR))


def _has_one_byte(name: str) -> bool:
    return name.startswith(("cp", "latin", "iso8859", "mac", "hp_", "koi8")) and name not in ("cp932", "cp949", "cp950")


def _is_text(sample: bytes, encoding: str) -> bool:
    """Whether bytes decode to assigned characters; bytes of a program decode to something in UTF-16 as well."""
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(sample)
    odd = sum(unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") and character not in "\t\n\r\f" for character in text)
    return odd * _FEWEST_ODD <= len(text)


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
        self._errors = "surrogatepass" if is_wide(encoding) else "surrogateescape"
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
