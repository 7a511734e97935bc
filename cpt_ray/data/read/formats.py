"""Read JSON lines and JSON.

Part of stage `read`; runs in a worker. Memory: one line or element of a JSON list.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.documents import Rejected, from_record
from cpt_ray.data.read.plan import ReadPart
from cpt_ray.edges.redaction import redact_uris
from cpt_ray.edges.source_files import open_source
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_CUT_NEAR_THE_END = 16


def read_jsonl(stream: Any, part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the lines of a file, or those that begin in a byte range of it."""
    position = part.start
    if part.start:
        # A line that crosses the boundary belongs to the previous part; one that begins exactly on it is ours.
        stream.seek(part.start - 1)
        position += len(stream.readline()) - 1
    number = 0
    while part.end is None or position < part.end:
        line = stream.readline()
        if not line:
            return
        number += 1
        if line.strip():
            for item in _json_line(line, source, part.path):
                if isinstance(item, Rejected) and item.problem:
                    item = replace(item, place=f"byte {position}" if part.start else f"line {number}")
                yield item
        position += len(line)


def _json_line(line: bytes, source: SourceConfig, path: str) -> Iterator[Document | Rejected]:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Rejected.bad("bad_encoding", f"not UTF-8: {error.reason}", line)
        return
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            yield from _glued(text, source, path)
        else:
            yield Rejected.bad("bad_json", f"not JSON: {error}", line)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits raises a plain ValueError
        yield Rejected.bad("bad_json", f"not JSON: {error}", line)
    else:
        yield _json_value(row, line, source, path)


def _glued(text: str, source: SourceConfig, path: str) -> Iterator[Document | Rejected]:
    """Objects on one line: files that ended without a newline were appended to each other, packed or not."""
    at = len(text) - len(text.lstrip())
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield Rejected.bad("bad_json", f"not JSON: {error}", text[at:])
            return
        yield _json_value(value, text[at:end], source, path)
        space = _SPACE.match(text, end)
        at = space.end() if space else end


def line_of(place: str, part: ReadPart) -> str:
    """Convert a byte offset in a large file of lines to a line number by counting the lines before it."""
    if not place.startswith("byte "):
        return place
    count, left = 1, int(place.removeprefix("byte "))
    with open_source(part.path) as stream:
        while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
            count += chunk.count(b"\n")
            left -= len(chunk)
    return f"line {count}"


class _Text:
    """A stream as text; only the part that is still needed is kept in memory."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        # Bytes that are not UTF-8 become lone surrogates, which `make_document` rejects.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        self.text, self.at, self.ended = "", 0, False

    def more(self) -> None:
        """Read more, doubling the buffer so that a long value is not parsed once per chunk."""
        data = self._stream.read(max(_CHUNK, len(self.text) - self.at))
        self.ended = not data
        self.text, self.at = self.text[self.at :] + self._decoder.decode(data, final=self.ended), 0

    def peek(self) -> str:
        """The next non-whitespace character, or an empty string at the end."""
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def value(self) -> tuple[Any, str]:
        """Read the next JSON value and its text.

        Raises:
            ValueError: If there is none.
            RecursionError: If it is nested too deeply.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos + _CUT_NEAR_THE_END > len(self.text)
                if self.ended or not cut:
                    raise
            else:
                if self.ended or end < len(self.text):
                    raw, self.at = self.text[self.at : end], end
                    return value, raw
            self.more()


def read_json(stream: Any, part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the objects of a list, or the single object, in a file."""
    text = _Text(stream)
    first = text.peek()
    if not first:
        yield Rejected("empty", redact_uris(part.path), 0)
    elif first == "[":
        text.at += 1
        yield from _json_list(text, part, source)
    else:
        yield _json_object(text, part, source)


def holds_lines(head: bytes) -> bool:
    """Whether a file called `.json` begins with an object that fills its first line, as files of JSON lines do."""
    line, newline, _ = head.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")
    if not newline or not line.startswith(b"{"):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return b"}{" in line
    return True


def _json_object(text: _Text, part: ReadPart, source: SourceConfig) -> Document | Rejected:
    try:
        value, raw = text.value()
    except (ValueError, RecursionError) as error:
        return Rejected.bad("bad_json", f"not JSON: {error}", text.text)
    if text.peek():
        raise DataError(
            f"{part.path}: contains more than one JSON value",
            fix=f"set format of source {source.name} to jsonl, or make the file a JSON list",
        )
    return _json_value(value, raw, source, part.path)


def _json_list(text: _Text, part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    number = 0
    mark = text.peek()
    while mark != "]":
        number += 1
        try:
            value, raw = text.value()
            mark = text.peek()
            if mark not in (",", "]"):
                raise ValueError(f"expected a comma or the end of the list, found {mark or 'the end of the file'!r}")
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{part.path}, element {number}: not JSON: {error}; the rest of the list cannot be parsed",
                fix=f"repair the file, or leave it out of source {source.name}",
            ) from error
        item = _json_value(value, raw, source, part.path)
        yield replace(item, place=f"element {number}") if isinstance(item, Rejected) else item
        if mark == ",":
            text.at += 1
            text.peek()
    text.at += 1
    if text.peek():
        raise DataError(
            f"{part.path}: unexpected content after the end of the list",
            fix=f"repair the file, or leave it out of source {source.name}",
        )


def _json_value(value: object, raw: bytes | str, source: SourceConfig, path: str) -> Document | Rejected:
    if not isinstance(value, dict):
        return Rejected.bad("bad_json", f"{type(value).__name__}, not an object", raw)
    return from_record(value, source, raw, path)
