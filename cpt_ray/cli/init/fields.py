"""Which field of a record is its text, its id, its language: proposals by name and by what the first records hold.

In: records. Out: names of fields as a study file has them, dotted where they are nested. Guarantee: a proposed text or id is in
every record that was looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

_TEXTS = ("text", "content", "body", "document", "raw_content", "page_content", "article", "markdown", "abstract", "output")
_IDS = ("id", "_id", "uuid", "uid", "doc_id", "document_id", "identifier", "article_id", "key")
_DEEPEST = 4
_SHORTEST_TEXT = 40
"""Mean characters below which a field holds labels, not text."""
_NAMED_SHARE = 0.3
_OPTIONAL: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    "language_field": (
        ("language", "lang", "language_code", "lang_code", "locale"),
        re.compile(r"[a-zA-Z]{2,3}([-_]\w{2,8})?"),
    ),
    "date_field": (("date", "published", "publication_date", "created", "timestamp"), re.compile(r".*\d.*", re.DOTALL)),
    "origin_field": (("url", "source_url", "origin", "link"), re.compile(r"\S+")),
    "license_field": (("license", "licence"), re.compile(r".+")),
}


class Fields(NamedTuple):
    """The fields of a source, by the key of the study file that names them; `text_field` is among them."""

    named: tuple[tuple[str, str], ...]
    characters: float
    """Mean length of the text."""
    share: float
    """Of a record, the share that is text."""

    @property
    def text(self) -> str:
        """The field with the text."""
        return dict(self.named)["text_field"]


def propose_fields(records: Sequence[Mapping[str, Any]]) -> Fields | None:
    """The fields of some records; None if none of them holds text."""
    flat = [dict(_leaves(record)) for record in records]
    every = [key for key in (flat[0] if flat else {}) if all(key in record for record in flat)]
    texts = {key: _mean_length(flat, key) for key in every}
    longest = max(texts.values(), default=0.0)
    if longest < _SHORTEST_TEXT:
        return None
    named = _by_name(every, _TEXTS, lambda key: texts[key] >= max(_SHORTEST_TEXT, _NAMED_SHARE * longest))
    text = named or max(texts, key=lambda key: texts[key])
    found = {"text_field": text}
    if identity := _by_name(every, _IDS, lambda key: _identifies(flat, key)):
        found["id_field"] = identity
    some = list(dict.fromkeys(key for record in flat for key in record))
    for setting, (names, pattern) in _OPTIONAL.items():
        if key := _by_name(some, names, lambda key, pattern=pattern: _holds(flat, key, pattern)):  # type: ignore[misc]
            found[setting] = key
    whole = sum(len(str(value)) for record in flat for value in record.values())
    return Fields(tuple(found.items()), texts[text], texts[text] * len(flat) / max(1, whole))


def _leaves(record: Mapping[str, Any], prefix: str = "", depth: int = 1) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in record.items():
        if isinstance(value, Mapping) and depth < _DEEPEST:
            found += _leaves(value, f"{prefix}{name}.", depth + 1)
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _mean_length(flat: Sequence[Mapping[str, Any]], key: str) -> float:
    values = [record[key] for record in flat]
    if not all(value is None or isinstance(value, (str, bytes)) for value in values):
        return 0.0
    return sum(len(value or "") for value in values) / len(values)


def _by_name(keys: Sequence[str], names: Sequence[str], fits: Callable[[str], bool]) -> str | None:
    """The first of some names that a key has as its last part, the least nested first."""
    for name in names:
        for key in sorted(keys, key=lambda key: key.count(".")):
            if key.rpartition(".")[2].casefold() == name and fits(key):
                return key
    return None


def _identifies(flat: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = [record[key] for record in flat]
    plain = all(isinstance(value, (str, int)) and value != "" for value in values)
    return plain and len(set(values)) == len(values)


def _holds(flat: Sequence[Mapping[str, Any]], key: str, pattern: re.Pattern[str]) -> bool:
    values = [str(record[key]) for record in flat if record.get(key) not in (None, "")]
    return bool(values) and all(len(value) < 300 and pattern.fullmatch(value) for value in values)
