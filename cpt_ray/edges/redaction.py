"""Mask secrets in everything that is shown or stored: configs in MLflow and in the report.

In: plain values or text. Out: the same with secrets masked. A value is a secret if a word
of its key says so (`api_key`, `token`); in any text, the user part of a URI and signed query values are secrets too. Only
whole words count, so `batch_tokens` is not a secret.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
_WORDS = frozenset(
    {"token", "secret", "password", "passwd", "passphrase", "key", "apikey", "credential", "credentials", "auth"}
)
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]+@", re.IGNORECASE)
_QUERY = re.compile(r"([?&][^=&\s]*(?:token|secret|password|key|sig|signature|credential)[^=&\s]*=)[^&\s'\"]+", re.IGNORECASE)
_LINE = re.compile(r"^(\s*(?:- )?['\"]?([\w.-]+)['\"]?:[ \t]+)(\S.*)$", re.MULTILINE)


def is_secret_key(key: str) -> bool:
    """Whether a word of `key` names a secret."""
    return not _WORDS.isdisjoint(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()))


def redact_text(text: str) -> str:
    """Mask credentials in URIs, and in lines of YAML the values of secret keys."""
    text = _QUERY.sub(rf"\1{MASK}", _USER.sub(rf"\1{MASK}@", text))
    return _LINE.sub(lambda m: m[1] + MASK if is_secret_key(m[2]) and m[3] not in ("null", "~") else m[0], text)


def redact(value: Any, key: str = "") -> Any:
    """Mask secrets in a tree of plain values."""
    if isinstance(value, dict):
        return {k: redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(v, key) for v in value]
    if value is not None and is_secret_key(key):
        return MASK
    return redact_text(value) if isinstance(value, str) else value
