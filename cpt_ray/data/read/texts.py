"""Read files that are one document each: plain text, Markdown, web pages, text with a header.

Part of stage `read`; runs in a worker. A file above `prepare.clean.max_bytes` is split at paragraph borders into documents of
their own, `NAME.part-1` and so on; a part that is not UTF-8 is rejected by itself. Of a web page the main text is taken
(resiliparse). Memory: three parts of a file; of a web page, or with `long_text: drop`, the file.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections import deque
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import yaml

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.documents import Rejected, make_document, mapped_fields, partitions
from cpt_ray.data.read.plan import ReadPart
from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.redaction import redact_uris
from cpt_ray.edges.source_files import split_chain
from cpt_ray.records import Document

_HEADER = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_LONGEST_HEADER = 1 << 20
_PIECE = 1 << 20
_ROOM = 0.95
"""Parts are a little smaller than the limit, because repair of the text may make it longer."""
_BORDERS = (re.compile(r"\n[ \t\r]*\n\s*"), re.compile(r"\n"), re.compile(r"\s"))


def read_text(stream: Any, part: ReadPart, source: SourceConfig, max_bytes: int | None) -> Iterator[Document | Rejected]:
    """Read a file as one document, or as the parts of one."""
    yield from _documents(_Text(stream).parts(_limit(source, max_bytes)), {"id": _stem(part)}, part, source)


def read_html(stream: Any, part: ReadPart, source: SourceConfig, max_bytes: int | None) -> Iterator[Document | Rejected]:
    """Read the main text of a web page: without tags, scripts, menus and footers."""
    with needed_for("the text of web pages"):
        from resiliparse.extract.html2text import extract_plain_text

    (text,) = _Text(stream).parts(None)
    if (problem := _bad_encoding(text, 0)) is not None:
        yield problem
        return
    plain = str(extract_plain_text(text, main_content=True, alt_texts=False, preserve_formatting=True))
    # A short or unusual page may have nothing that looks like its main part.
    plain = plain if plain.strip() else str(extract_plain_text(text, main_content=False, alt_texts=False))
    limit = _limit(source, max_bytes)
    yield from _documents(iter([plain] if limit is None else split_text(plain, limit)), {"id": _stem(part)}, part, source)


def read_front_matter(
    stream: Any, part: ReadPart, source: SourceConfig, max_bytes: int | None
) -> Iterator[Document | Rejected]:
    """Read a file as one document after a YAML header."""
    text = _Text(stream)
    text.fill(_LONGEST_HEADER)
    header = _HEADER.match(text.text)
    fields: dict[str, object] = {"id": _stem(part)}
    if header:
        fields |= {name: _header_field(header[1], key) for name, key in mapped_fields(source).items() if name != "id"}
        text.text = text.text[header.end() :].lstrip("\r\n")
    yield from _documents(text.parts(_limit(source, max_bytes)), fields, part, source)


def _limit(source: SourceConfig, max_bytes: int | None) -> int | None:
    return None if source.long_text == "drop" else max_bytes


def _documents(
    parts: Iterator[str], fields: dict[str, object], part: ReadPart, source: SourceConfig
) -> Iterator[Document | Rejected]:
    """A document of a text that is in one part, or one of each part."""
    folders = partitions(part.path)
    for name, key in mapped_fields(source).items():
        if fields.get(name) is None and key in folders:
            fields[name] = folders[key]
    first, second = next(parts, ""), next(parts, None)
    if second is None:
        yield _bad_encoding(first, 0) or make_document(source, first, fields)
        return
    begin = 0
    for number, text in enumerate(itertools.chain([first, second], parts), 1):
        yield _bad_encoding(text, begin) or make_document(source, text, {**fields, "id": f"{fields['id']}.part-{number}"})
        begin += len(text.encode(errors="surrogateescape"))


def _bad_encoding(text: str, begin: int) -> Rejected | None:
    """The rejection of a text that has lone surrogates for bytes that are not UTF-8; it begins at a byte of its file."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        at = begin + len(text[: error.start].encode())
        return Rejected.bad("bad_encoding", f"not UTF-8: byte {at}", text)
    return None


class _Text:
    """A stream of UTF-8 as text, of which only the part that is still needed is kept."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        self._ended = False
        self.text = ""

    def fill(self, size: int | None) -> None:
        """Read on until the text has `size` bytes, at least, or ends; None: to its end."""
        pieces, have = [self.text], 0 if size is None else _num_bytes(self.text)
        while not self._ended and (size is None or have < size):
            data = self._stream.read(_PIECE)
            self._ended = not data
            have += len(data)
            pieces.append(self._decoder.decode(data, final=self._ended))
        self.text = "".join(pieces)

    def parts(self, max_bytes: int | None) -> Iterator[str]:
        """The text in parts below a limit, as `split_text` cuts it; None: in one."""
        room = None if max_bytes is None else _room(max_bytes)
        while True:
            # Two parts ahead, so that the last two are of about equal size.
            self.fill(room and 2 * room + _PIECE)
            if room is None or max_bytes is None or self._ended:
                break
            end = _border(self.text, 0, _within(self.text, 0, room))
            yield self.text[:end]
            self.text = self.text[end:]
        yield from [self.text] if max_bytes is None else split_text(self.text, max_bytes)


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _room(max_bytes: int) -> int:
    return max(4, int(max_bytes * _ROOM))


def split_text(text: str, max_bytes: int) -> list[str]:
    """Cut a text into parts of about equal size below a limit; together they are the text.

    A text within the limit is one part. A cut falls on the last border of a paragraph in the second half of a part, else of a
    line, else of a word, else anywhere.

    Args:
        text: The text.
        max_bytes: The limit, in UTF-8 bytes.
    """
    size, room = _num_bytes(text), _room(max_bytes)
    if size <= max_bytes:
        return [text]
    target = min(room, -(-size // -(-size // room)) + room // 20)
    parts, at = [], 0
    while at < len(text):
        end = _within(text, at, target)
        if end < len(text):
            end = _border(text, at, end)
        parts.append(text[at:end])
        at = end
    return parts


def _within(text: str, at: int, room: int) -> int:
    """The end of the longest piece of at most `room` bytes."""
    piece = text[at : at + room].encode(errors="surrogatepass")[:room]
    return at + max(1, len(piece.decode(errors="ignore") if piece.isascii() else piece.decode("utf-8", "ignore")))


def _border(text: str, at: int, end: int) -> int:
    for border in _BORDERS:
        last = deque(border.finditer(text, at + (end - at) // 2, end), maxlen=1)
        if last:
            return last[0].end()
    return end


def _header_field(header: str, name: str) -> object:
    # Only this line is parsed: a whole header takes a millisecond in YAML, more than all other reading together.
    match = re.search(rf"^{re.escape(name)}[ \t]*:[^\n]*", header, re.MULTILINE)
    if match is None:
        return None if "." not in name else _nested_header_field(header, name)
    try:
        value = yaml.safe_load(match[0])[name]
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return None
    # YAML 1.1 parses the language code of Norwegian as a boolean.
    return "no" if value is False else value


def _nested_header_field(header: str, name: str) -> object:
    try:
        value: object = yaml.safe_load(header)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):  # ValueError: an impossible date
        return None
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return "no" if value is False else value


def _stem(part: ReadPart) -> str:
    first = split_chain(part.path)[0]
    return PurePosixPath(first.split("?")[0] if "://" in first else first).name.split(".")[0] or redact_uris(part.path)
