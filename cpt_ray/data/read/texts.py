"""Read files that are one document each: plain text, Markdown, web pages, text with a header.

Part of stage `read`; runs in a worker. A file above `prepare.clean.max_bytes` is split at paragraph borders into documents of
their own, `NAME.part-1` and so on. Of a web page the main text is taken (resiliparse). Memory: one file.
"""

from __future__ import annotations

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
_ROOM = 0.95
"""Parts are a little smaller than the limit, because repair of the text may make it longer."""
_BORDERS = (re.compile(r"\n[ \t\r]*\n\s*"), re.compile(r"\n"), re.compile(r"\s"))


def read_text(stream: Any, part: ReadPart, source: SourceConfig, max_bytes: int | None) -> Iterator[Document | Rejected]:
    """Read a file as one document, or as the parts of one."""
    text = _file_text(stream)
    if isinstance(text, Rejected):
        yield text
        return
    yield from _documents(text, {"id": _stem(part)}, part, source, max_bytes)


def read_html(stream: Any, part: ReadPart, source: SourceConfig, max_bytes: int | None) -> Iterator[Document | Rejected]:
    """Read the main text of a web page: without tags, scripts, menus and footers."""
    with needed_for("the text of web pages"):
        from resiliparse.extract.html2text import extract_plain_text

    text = _file_text(stream)
    if isinstance(text, Rejected):
        yield text
        return
    plain = str(extract_plain_text(text, main_content=True, alt_texts=False, preserve_formatting=True))
    # A short or unusual page may have nothing that looks like its main part.
    plain = plain if plain.strip() else str(extract_plain_text(text, main_content=False, alt_texts=False))
    yield from _documents(plain, {"id": _stem(part)}, part, source, max_bytes)


def read_front_matter(
    stream: Any, part: ReadPart, source: SourceConfig, max_bytes: int | None
) -> Iterator[Document | Rejected]:
    """Read a file as one document after a YAML header."""
    text = _file_text(stream)
    if isinstance(text, Rejected):
        yield text
        return
    header = _HEADER.match(text)
    fields: dict[str, object] = {"id": _stem(part)}
    if header:
        fields |= {name: _header_field(header[1], key) for name, key in mapped_fields(source).items() if name != "id"}
    body = text[header.end() :].lstrip("\r\n") if header else text
    yield from _documents(body, fields, part, source, max_bytes)


def _documents(
    text: str, fields: dict[str, object], part: ReadPart, source: SourceConfig, max_bytes: int | None
) -> Iterator[Document | Rejected]:
    folders = partitions(part.path)
    for name, key in mapped_fields(source).items():
        if fields.get(name) is None and key in folders:
            fields[name] = folders[key]
    if max_bytes is None or source.long_text == "drop" or len(text.encode(errors="surrogatepass")) <= max_bytes:
        yield make_document(source, text, fields)
        return
    for number, piece in enumerate(split_text(text, max_bytes), 1):
        yield make_document(source, piece, {**fields, "id": f"{fields['id']}.part-{number}"})


def split_text(text: str, max_bytes: int) -> list[str]:
    """Cut a text into parts of about equal size below a limit; together they are the text.

    A cut falls on the last border of a paragraph in the second half of a part, else of a line, else of a word, else anywhere.

    Args:
        text: The text.
        max_bytes: The limit, in UTF-8 bytes.
    """
    size = len(text.encode(errors="surrogatepass"))
    room = max(4, int(max_bytes * _ROOM))
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


def _file_text(stream: Any) -> str | Rejected:
    data = stream.read()
    try:
        return str(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Rejected.bad("bad_encoding", f"not UTF-8: {error.reason} at byte {error.start}", data)


def _stem(part: ReadPart) -> str:
    first = split_chain(part.path)[0]
    return PurePosixPath(first.split("?")[0] if "://" in first else first).name.split(".")[0] or redact_uris(part.path)
