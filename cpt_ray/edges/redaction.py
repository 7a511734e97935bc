"""What is shown or stored, without secrets and without control characters.

In: plain values or text. Out: the same with secrets masked, for saved configs, records, MLflow and the report; for the terminal
and log files also with control characters escaped, so that no document, name or message can move the cursor, set a title or
reorder a line. A value is a secret if a word of its key says so (`api_key`, `token`); in any text, the user part of a URI and
signed query values are secrets too. Only whole words of keys count, so `batch_tokens` is not a secret.

In the path of a web address a part is a secret if it says so (`/token=...`, `/sig/...`), if it is a JSON web token, or if it
looks drawn at random: at least 20 letters of both cases and digits, and no dot as in the name of a file. Others cannot be told.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
_WORDS = frozenset(
    {"token", "secret", "password", "passwd", "passphrase", "key", "apikey", "credential", "credentials", "auth"}
)
# Up to the last `@` before the path: a password may hold one itself.
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*:/{1,2})[^/\s'\"?#]*@", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&;#][^=&\s?;#]*(?:token|secret|passw|passphrase|pwd|key|sig|credential|auth|jwt|sas|session|ticket|code)[^=&\s]*=)[^&\s'\"]+",
    re.IGNORECASE,
)
_WEB = re.compile(r"\bhttps?://[^/\s'\"?#]*(/[^\s'\"?#]*)", re.IGNORECASE)
_NAMED = "token|access_token|secret|signature|sig|apikey|api_key|password|passwd|auth"
_PART = re.compile(
    rf"(?<=/)((?:{_NAMED})[=:])[^/]+"
    rf"|(?<=/)((?:{_NAMED})/)(?=[^/]*\d)[^/.]{{8,}}(?=/|$)"
    r"|(?<=/)()eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"
    r"|(?<=/)(bot\d+:)[\w-]{20,}"
    r"|(?<=/)()(?=[^/]*[a-z])(?=[^/]*[A-Z])(?=[^/]*\d)[\w~=+-]{20,}(?=/|$)",
)
_PAIR = re.compile(r"(?<![\w.-])([\w.-]+)=([^\s'\"]+)")
# Not line feed and tab, which are layout. Beyond ASCII: C1, the marks that reorder text, line separators, surrogates.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_LINE = re.compile(r"^(\s*(?:- )?['\"]?([\w.-]+)['\"]?:[ \t]+)(\S.*)$", re.MULTILINE)


def is_secret_key(key: str) -> bool:
    """Whether a word of `key` names a secret."""
    return not _WORDS.isdisjoint(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()))


def redact_uris(text: str) -> str:
    """Mask the credentials in the URIs of a text."""
    if ":/" not in text:
        return text
    text = _QUERY.sub(rf"\1{MASK}", _USER.sub(rf"\1{MASK}@", text))
    return _WEB.sub(lambda found: found[0][: found.start(1) - found.start()] + _PART.sub(_without_secret, found[1]), text)


def _without_secret(found: re.Match[str]) -> str:
    return next((name for name in found.groups() if name is not None), "") + MASK


def printable_arguments(text: str) -> str:
    """`printable` for text that repeats arguments of a command line: the values of secret keys are masked too."""
    return _PAIR.sub(lambda found: f"{found[1]}={MASK}" if _is_set(found) else found[0], printable(text))


def _is_set(found: re.Match[str]) -> bool:
    return is_secret_key(found[1]) and found[2] != "value"  # `section.key=value` is how messages write an override


def printable(text: str) -> str:
    """Text for the terminal or a log file: credentials in URIs masked, control characters escaped, lines and tabs kept."""
    return _CONTROL.sub(lambda found: _escaped(found[0]), redact_uris(text))


def printable_line(text: str) -> str:
    """`printable` for text that must stay on one line, such as the id of a document."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def redact_text(text: str) -> str:
    """Mask credentials in URIs, and in lines of YAML the values of secret keys."""
    text = redact_uris(text)
    return _LINE.sub(lambda m: m[1] + MASK if is_secret_key(m[2]) and m[3] not in ("null", "~") else m[0], text)


def redact(value: Any, key: str = "") -> Any:
    """Mask secrets in a tree of plain values."""
    if isinstance(value, dict):
        return {k: redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(v, key) for v in value]
    if value is not None and is_secret_key(key) and not (isinstance(value, int) and key.endswith("token_id")):
        return MASK
    return redact_text(value) if isinstance(value, str) else value
