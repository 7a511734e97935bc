"""From the fields of a record to a document, or to the reason why it is not one.

Part of stage `read`. Memory: one record.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.records import Document

_ID_HEX = 16
_PREVIEW = 1000

BAD = {
    "bad_encoding": "convert the files of source {source} to UTF-8",
    "bad_json": "check path and format of source {source}: it contains something other than JSON objects",
    "bad_row": "quote fields that contain commas, quotes or newlines, or repair this row",
    "missing_field": "set the field names of source {source} to fields that its records have",
    "not_text": "set text_field of source {source} to a field that contains text",
}
"""Reasons why a record is bad, each with its fix. A record without text is `empty`, not bad."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Input that is not a document.

    `id` is that of the record if it has one, else its location; `problem` says what is wrong with a bad record, and `place`
    where in the file it is.
    """

    reason: str
    id: str
    num_bytes: int
    preview: str = ""
    problem: str = ""
    place: str = ""

    @classmethod
    def bad(cls, reason: str, problem: str, raw: bytes | str) -> Rejected:
        """A bad record of which only the bytes are known."""
        data = raw.encode(errors="surrogateescape") if isinstance(raw, str) else raw
        return cls(reason, "", len(data), data[:_PREVIEW].decode(errors="replace"), problem)


def make_document(source: SourceConfig, text: str, fields: Mapping[str, object]) -> Document | Rejected:
    """Make a document from a text and the other fields of its record, keyed by the field names of `Document`.

    Args:
        source: Provides the name, and defaults for missing fields.
        text: The text; bytes that are not UTF-8 may occur in it as lone surrogates.
        fields: `id`, `language`, `origin`, `date`, `license`, each of any type, or missing.
    """
    known = {name: _written(value) for name, value in fields.items() if value is not None and value != ""}
    try:
        data = text.encode()
        for value in known.values():
            value.encode()
    except UnicodeEncodeError:
        return Rejected.bad("bad_encoding", "not UTF-8", text.encode(errors="surrogatepass"))
    # The content names a document without an id, so that names do not depend on file order or on how units are cut.
    name = known.pop("id", "") or content_id(text)
    if not text.strip():
        return Rejected("empty", name, len(data))
    document = Document(name, text, source.name, source.default_language)
    return replace(document, **known)


def content_id(text: str) -> str:
    """The id of a document that its source gives none: a hash of its text."""
    return hashlib.blake2b(text.encode(), digest_size=_ID_HEX // 2).hexdigest()


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def mapped_fields(source: SourceConfig) -> dict[str, str]:
    """The document fields that a source maps: `id` and so on to a column or key."""
    names = {
        "id": source.id_field,
        "language": source.language_field,
        "origin": source.origin_field,
        "date": source.date_field,
        "license": source.license_field,
    }
    return {name: key for name, key in names.items() if key is not None}


def from_record(row: Mapping[str, Any], source: SourceConfig, raw: bytes | str) -> Document | Rejected:
    """Make a document from a record of named fields; text and id are required, the rest may be missing."""
    for key in filter(None, (source.text_field, source.id_field)):
        if key not in row:
            return Rejected.bad("missing_field", f"no field {key!r}; fields present: {_names(row)}", raw)
    text = row[source.text_field]
    if text is not None and not isinstance(text, str):
        return Rejected.bad("not_text", f"{source.text_field!r} holds {type(text).__name__}, not text", raw)
    return make_document(source, text or "", {name: row.get(key) for name, key in mapped_fields(source).items()})


def missing_columns(names: Iterable[str], source: SourceConfig) -> str | None:
    """The problem with a table that lacks a column named by the source; None if it has them all."""
    present = list(names)
    for key in (source.text_field, *mapped_fields(source).values()):
        if key not in present:
            return f"no column {key!r}; columns present: {', '.join(present)}"
    return None


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(str(name)[:50] for name in list(row)[:20])
