"""From the fields of a record to a document, or to the reason why it is not one.

Part of stage `read`. Memory: one record.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.records import Document

_ID_HEX = 16
_REQUIRED = ("text", "id")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
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
        "label": source.label_field,
    }
    return {name: key for name, key in names.items() if key is not None}


_ABSENT = object()


def partitions(path: str) -> dict[str, str]:
    """Columns that a table's writer put into the path: `lang=de/part-0.parquet` has `lang`."""
    folders = path.split("/")[:-1] if "=" in path else ()
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    return {key: unquote(value) for key, _, value in pairs if key and value != _NO_VALUE}


def lookup(row: Mapping[str, Any], key: str) -> object:
    """A field of a record: the key as it stands, else through nested objects along its dots; `_ABSENT` if there is none."""
    if key in row:
        return row[key]
    if "." not in key:
        return _ABSENT
    value: object = row
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def from_record(row: Mapping[str, Any], source: SourceConfig, raw: bytes | str, path: str = "") -> Document | Rejected:
    """Make a document from a record of named fields; text and id are required, the rest may be missing.

    Args:
        row: The record.
        source: Its source.
        raw: The record as it stands in its file, or its text.
        path: The file, whose folders may give fields (`partitions`).
    """
    folders = partitions(path)
    found: dict[str, object] = {}
    for name, key in {"text": source.text_field, **mapped_fields(source)}.items():
        value = lookup(row, key)
        value = folders.get(key, _ABSENT) if value is _ABSENT else value
        if value is _ABSENT and name in _REQUIRED:
            return Rejected.bad("missing_field", f"no field {key!r}; fields present: {_names(row)}", raw)
        found[name] = None if value is _ABSENT else value
    text = found.pop("text")
    if text is not None and not isinstance(text, str):
        return Rejected.bad("not_text", f"{source.text_field!r} holds {type(text).__name__}, not text", raw)
    return make_document(source, text or "", found)


def missing_columns(names: Iterable[str], source: SourceConfig, path: str = "") -> str | None:
    """The problem with a table that lacks the column of text or id, or has it twice; None if there is none."""
    present = list(names)
    for name, key in {"text": source.text_field, **mapped_fields(source)}.items():
        if present.count(key) > 1:
            return f"{present.count(key)} columns are called {key!r}; columns present: {_listed(present)}"
        nested = "." in key and key.split(".")[0] in present
        if name in _REQUIRED and key not in present and key not in partitions(path) and not nested:
            return f"no column {key!r}; columns present: {_listed(present)}"
    return None


def _names(row: Mapping[str, Any]) -> str:
    return _listed(list(row))


def _listed(names: Sequence[str]) -> str:
    # The first line of a file without a header may be a whole document.
    return ", ".join(str(name)[:50] for name in names[:20])
