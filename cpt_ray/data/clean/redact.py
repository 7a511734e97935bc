"""Replace personal data and secrets in a text: email addresses, phone numbers, IP addresses, keys.

Part of stage `clean`, for documents that are kept. Patterns are strict where text is full of look-alikes: a phone number needs
a plus sign, parentheses or separators, and must not be a date, a version or part of a longer number; an IP address must be
valid and public; a key has a known prefix, is a private-key block, or is labeled as a secret and looks random. Memory: one
text.

Guarantee: counts equal the number of replacements; a redacted text has nothing left to redact.
"""

from __future__ import annotations

import collections
import functools
import ipaddress
import math
import re
from collections.abc import Callable, Sequence

# Letters of one alphabet with what is looked for, and digits, continue a word. Others do not: Chinese, Thai or Korean writes no
# space in front of an address or behind it.
_LETTER = r"\dA-Za-z\u00aa\u00ba\u00c0-\u024f"
_WORD = f"{_LETTER}_"
_EMAIL = re.compile(
    rf"(?<![{_LETTER}.+%-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]{{0,62}}[A-Za-z0-9_+-])?@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}"
    rf"(?![{_LETTER}])"
)
_PHONE = re.compile(
    rf"(?<![{_WORD}.,/+#-])(?:"
    r"(?:\+|00)[1-9]\d{0,2}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"
    r"|(?:1[ .-])?\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}"
    r"|(?:1[ .-])?\d{3}([ .-])\d{3}\1\d{4}"
    r"|\(0\d{1,4}\)[ .-]?\d{2,4}(?:[ .-]?\d{2,4}){1,3}"
    rf")(?![{_WORD}-]|[.,/]\d)"
)
_IPV4 = re.compile(rf"(?<![{_WORD}.-])(?:\d{{1,3}}\.){{3}}\d{{1,3}}(?![{_WORD}-]|\.[{_WORD}])")
_IPV6 = re.compile(rf"(?<![{_WORD}:.])(?:[0-9A-Fa-f]{{1,4}}:|:(?=:)){{2,7}}(?::?[0-9A-Fa-f]{{1,4}})?(?![{_WORD}:])")
_KEY = re.compile(
    r"-----BEGIN (?P<block>[A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?)-----.{1,20000}?-----END (?P=block)-----"
    rf"|(?<![{_WORD}-])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20}"
    r"|sk-(?:[A-Za-z]{2,12}-)*[A-Za-z0-9_-]{20,200}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,128}"
    r"|hf_[A-Za-z0-9]{30,64}|pypi-[A-Za-z0-9_-]{50,255}|npm_[A-Za-z0-9]{36}|AIza[A-Za-z0-9_-]{35}|xox[abprs]-[A-Za-z0-9-]{10,200}"
    r"|eyJ[A-Za-z0-9_-]{10,4000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,4000}"
    rf")(?![{_WORD}-])",
    re.DOTALL,
)
_NAMED_SECRET = re.compile(
    r"(?i)((?:api[_-]?key|secret|token|passw(?:or)?d|access[_-]?key)[\w-]{0,20}[\"']?\s{0,3}(?:=|:|=>)\s{0,3}[\"'])"
    r"([A-Za-z0-9+/_=.-]{16,200})(?=[\"'])"
)
# Cheap pre-checks that every match passes: most texts need no full pattern.
_DIGITS = re.compile(r"\d{2,4}[ .-]?\d{2}|\(\d")
_DOTTED = re.compile(r"\d\.\d{1,3}\.\d")
_KEY_PARTS = (
    *("PRIVATE KEY", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "sk-"),
    *("k_live_", "k_test_", "hf_", "pypi-", "npm_", "AIza", "xox", "eyJ"),
)
_SECRET_NAMES = ("key", "secret", "token", "passw")
_ORDER = ("key", "email", "ip", "phone")
"""A key may contain what looks like the others."""
_LEAST_BITS = 3.0
_LEAST_LONG_PARTS = 2


def redact(text: str, kinds: Sequence[str], placeholder: str) -> tuple[str, dict[str, int]]:
    """Replace personal data and secrets of the requested kinds.

    Args:
        text: The text of a document.
        kinds: Any of `email`, `phone`, `ip` and `key`.
        placeholder: The replacement, with `{kind}` for the kind in upper case.

    Returns:
        The text, and the number of replacements by kind; kinds that were not found are left out.
    """
    marks = {kind: placeholder.replace("{kind}", kind.upper()) for kind in _ORDER if kind in kinds}
    counts: collections.Counter[str] = collections.Counter()
    found = True
    # Again and again: what is replaced may have hidden what it touched. Not where a placeholder would itself be replaced.
    stands = not any(_KINDS[kind](mark, "")[1] for mark in marks.values() for kind in marks)
    while found:
        before = counts.total()
        for kind, mark in marks.items():
            text, count = _KINDS[kind](text, mark)
            counts[kind] += count
        found = stands and counts.total() > before
    return text, dict(+counts)


def _emails(text: str, mark: str) -> tuple[str, int]:
    return _EMAIL.subn(lambda _: mark, text) if "@" in text else (text, 0)


def _phones(text: str, mark: str) -> tuple[str, int]:
    return _replace(_PHONE, text, mark, _is_phone) if _DIGITS.search(text) else (text, 0)


def _addresses(text: str, mark: str) -> tuple[str, int]:
    text, count = _replace(_IPV4, text, mark, _is_public_v4) if _DOTTED.search(text) else (text, 0)
    text, more = _replace(_IPV6, text, mark, _is_public) if "::" in text or text.count(":") >= 7 else (text, 0)
    return text, count + more


def _keys(text: str, mark: str) -> tuple[str, int]:
    count = named = 0
    if any(part in text for part in _KEY_PARTS):
        text, count = _KEY.subn(lambda _: mark, text)
    lowered = text.lower()
    if not any(name in lowered for name in _SECRET_NAMES):
        return text, count

    def replace(match: re.Match[str]) -> str:
        nonlocal named
        if not _is_random(match[2]):
            return match[0]
        named += 1
        return match[1] + mark

    return _NAMED_SECRET.sub(replace, text), count + named


def _replace(pattern: re.Pattern[str], text: str, mark: str, holds: Callable[[str], bool]) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if not holds(match[0]):
            return match[0]
        count += 1
        return mark

    return pattern.sub(replace, text), count


def _is_phone(found: str) -> bool:
    return 8 <= sum(map(str.isdigit, found)) <= 15


@functools.lru_cache(maxsize=1 << 10)
def _is_public(found: str) -> bool:
    try:
        return ipaddress.ip_address(found).is_global
    except ValueError:
        return False


def _is_public_v4(found: str) -> bool:
    """A number such as 2.1.2.31 is a version or a section far more often than an address."""
    return sum(len(part) > 1 for part in found.split(".")) >= _LEAST_LONG_PARTS and _is_public(found)


def _is_random(found: str) -> bool:
    """Letters and digits with at least three bits per character: not a word or a placeholder such as `your-api-key-here`."""
    counts = collections.Counter(found).values()
    bits = -sum(count / len(found) * math.log2(count / len(found)) for count in counts)
    return bits >= _LEAST_BITS and any(map(str.isdigit, found)) and any(map(str.isalpha, found))


_KINDS: dict[str, Callable[[str, str], tuple[str, int]]] = {
    "email": _emails,
    "phone": _phones,
    "ip": _addresses,
    "key": _keys,
}
