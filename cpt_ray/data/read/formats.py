"""Read JSON lines, JSON, CSV and plain text, compressed or not.

Part of stage `read`; runs in a worker. Memory: one line, row or element of a JSON list, or one file for formats with one
document per file.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import yaml

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.documents import Rejected, from_record, make_document, mapped_fields, missing_columns
from cpt_ray.data.read.plan import ReadPart
from cpt_ray.edges.redaction import redact_uris
from cpt_ray.edges.source_files import open_source
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_CHUNK = 1 << 20
_LONGEST_FIELD = 1 << 30
_HEADER = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_CUT_NEAR_THE_END = 16


def read_jsonl(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the lines of a file, or those that begin in a byte range of it."""
    with open_source(part.path) as stream:
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
                item = _json_line(line, source)
                if isinstance(item, Rejected) and item.problem:
                    item = replace(item, place=f"byte {position}" if part.start else f"line {number}")
                yield item
            position += len(line)


def _json_line(line: bytes, source: SourceConfig) -> Document | Rejected:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Rejected.bad("bad_encoding", f"not UTF-8: {error.reason}", line)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits raises a plain ValueError
        return Rejected.bad("bad_json", f"not JSON: {error}", line)
    if not isinstance(row, dict):
        return Rejected.bad("bad_json", f"{type(row).__name__}, not an object", line)
    return from_record(row, source, line)


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


def read_json(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the objects of a list, or the single object, in a file."""
    with open_source(part.path) as stream:
        text = _Text(stream)
        first = text.peek()
        if not first:
            yield Rejected("empty", _stem(part), 0)
        elif first == "[":
            text.at += 1
            yield from _json_list(text, part, source)
        else:
            yield _json_object(text, part, source)


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
    return _json_value(value, raw, source)


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
        item = _json_value(value, raw, source)
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


def _json_value(value: object, raw: str, source: SourceConfig) -> Document | Rejected:
    if not isinstance(value, dict):
        return Rejected.bad("bad_json", f"{type(value).__name__}, not an object", raw)
    return from_record(value, source, raw)


def read_csv(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read the rows below a header. A quoted field may contain newlines."""
    csv.field_size_limit(_LONGEST_FIELD)
    with open_source(part.path) as stream:
        lines = _Lines(stream)
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{part.path}, line 1: the header is not CSV: {error}",
                fix=f"repair the file, or leave it out of source {source.name}",
            ) from error
        if header is None:
            return
        problem = missing_columns(header, source)
        if problem is not None:
            raise DataError(f"{part.path}: {problem}", fix=f"set the field names of source {source.name} to existing columns")
        while True:
            lines.taken.clear()
            try:
                row = next(reader, None)
            except csv.Error as error:
                if "unexpected end of data" in str(error):
                    raise DataError(
                        f"{part.path}, line {lines.number - len(lines.taken) + 1}: the quote opened here is never closed",
                        fix=f"repair the file, or leave it out of source {source.name}",
                    ) from error
                item: Document | Rejected = Rejected.bad("bad_row", f"not CSV: {error}", "".join(lines.taken))
            else:
                if row is None:
                    return
                if not row:
                    continue
                if len(row) == len(header):
                    item = from_record(dict(zip(header, row, strict=True)), source, "".join(lines.taken))
                else:
                    problem = f"{len(row)} columns, but the header has {len(header)}"
                    item = Rejected.bad("bad_row", problem, "".join(lines.taken))
            yield replace(item, place=f"line {lines.number}") if isinstance(item, Rejected) else item


class _Lines:
    """The lines of a stream, and those that the current row has consumed."""

    def __init__(self, stream: Any) -> None:
        # Bytes that are not UTF-8 become lone surrogates, which `make_document` rejects.
        self._text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self.number = 0
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._text)
        self.number += 1
        self.taken.append(line)
        return line


def read_text(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read a file as one document."""
    text = _file_text(part)
    yield text if isinstance(text, Rejected) else make_document(source, text, {"id": _stem(part)})


def read_front_matter(part: ReadPart, source: SourceConfig) -> Iterator[Document | Rejected]:
    """Read a file as one document after a YAML header."""
    text = _file_text(part)
    if isinstance(text, Rejected):
        yield text
        return
    header = _HEADER.match(text)
    fields: dict[str, object] = {"id": _stem(part)}
    if header:
        fields |= {name: _header_field(header[1], key) for name, key in mapped_fields(source).items() if name != "id"}
    yield make_document(source, text[header.end() :].lstrip("\r\n") if header else text, fields)


def _header_field(header: str, name: str) -> object:
    # Only this line is parsed: a whole header takes a millisecond in YAML, more than all other reading together.
    match = re.search(rf"^{re.escape(name)}[ \t]*:[^\n]*", header, re.MULTILINE)
    if match is None:
        return None
    try:
        value = yaml.safe_load(match[0])[name]
    except (yaml.YAMLError, KeyError, TypeError):
        return None
    # YAML 1.1 parses the language code of Norwegian as a boolean.
    return "no" if value is False else value


def _file_text(part: ReadPart) -> str | Rejected:
    with open_source(part.path) as stream:
        data = stream.read()
    try:
        return str(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Rejected.bad("bad_encoding", f"not UTF-8: {error.reason} at byte {error.start}", data)


def _stem(part: ReadPart) -> str:
    path = redact_uris(part.path)
    return PurePosixPath(path.split("::")[0]).name.split(".")[0] or path
