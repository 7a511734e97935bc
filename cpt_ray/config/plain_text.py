"""Read the text files that a study is made of, and JSON in them, without trusting either.

In: a path that a user gave, or the text of a JSON. Out: text, or a tree of dicts, lists, strings, numbers, booleans and None.
Guarantee: whatever is in the file, the answer is such a tree or a `ConfigError`, within a second for each megabyte; nothing in
the tree surprises what comes later: every number is finite and fits 64 bits, every string can be printed and stored.
"""

import json
import math
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from cpt_ray.errors import ConfigError

MOST_BYTES = 1_000_000
MOST_LEVELS = 64
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1

_MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
# Line feed, tab and carriage return are text. A surrogate is what Python makes of an argument that is not UTF-8.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_JSON_STEP = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_LONGEST_INTEGER = 20


def read_text_file(path: Path, *, kind: str, fix: str) -> str:
    """Read a small text file in UTF-8, with or without a byte order mark.

    Args:
        path: Where it is.
        kind: What it is, for messages: `study file`.
        fix: What to do if there is none at `path`.

    Raises:
        ConfigError: If it is missing, no regular file, too large, not readable or not UTF-8.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"{path}: is a folder, not a {kind}", fix=fix)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: is not a regular file", fix=fix)
        if status.st_size > MOST_BYTES:
            raise ConfigError(
                f"{path}: {status.st_size} bytes, but a {kind} has at most {MOST_BYTES}", fix=f"check that this is the {kind}"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {kind}", fix=fix) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", fix="check the path and its permissions") from error
    except ValueError as error:  # a NUL character in the path, or a surrogate
        raise ConfigError(f"{str(path)!r}: is not a path: {error}", fix=fix) from None
    return _decode(data, path)


def _decode(data: bytes, path: Path) -> str:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise ConfigError(f"{path}: not UTF-8 text: it is {encoding}", fix="save the file as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text: {error.reason}", fix="save the file as UTF-8") from error


def problem_of_string(text: str) -> str | None:
    """What keeps `text` from being stored and shown, or None."""
    found = _NOT_TEXT.search(text)
    return None if found is None else f"holds the character U+{ord(found[0]):04X}, which is not text"


def read_integer(text: str) -> int | None:
    """The decimal integer in `text`, or None if it does not fit 64 bits."""
    # Measured first: Python refuses to convert more than 4,300 digits, with an error of its own.
    digits = text.replace("_", "").lstrip("+-").lstrip("0") or "0"
    if len(digits) > _LONGEST_INTEGER:
        return None
    value = -int(digits) if text.startswith("-") else int(digits)
    return value if SMALLEST_INTEGER <= value <= LARGEST_INTEGER else None


def shorten(value: object, most: int = 120) -> str:
    """`repr(value)` in at most about `most` characters, for a message."""
    if isinstance(value, int) and not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        return "a number beyond 64 bits"
    if isinstance(value, (str, bytes)):
        value = value[: most + 1]
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."


def read_json_file(path: Path, *, kind: str, fix: str) -> Any:
    """Read a small JSON file; see `read_text_file` and `parse_json`."""
    return parse_json(read_text_file(path, kind=kind, fix=fix), str(path))


def parse_json(text: str, place: str) -> Any:
    """Parse JSON as the standard has it: no NaN, no repeated keys.

    Raises:
        ConfigError: Names `place`, the line if there is one, what is wrong and what to do.
    """
    _check_levels(text, place)
    try:
        tree = json.loads(
            text,
            object_pairs_hook=lambda pairs: _object(pairs, text, place),
            parse_constant=lambda name: _refuse(place, text, name, f"{name} is not JSON"),
            parse_int=lambda digits: _integer(digits, text, place),
            parse_float=lambda digits: _float(digits, text, place),
        )
    except json.JSONDecodeError as error:
        raise ConfigError(f"{place}: line {error.lineno}: not valid JSON: {error.msg}", fix="correct that line") from None
    _check_strings(tree, place)
    return tree


def _check_strings(tree: Any, place: str) -> None:
    r"""Refuse what escapes such as `\u0000` put into strings."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            left += [*node, *node.values()]
        elif isinstance(node, list):
            left += node
        elif isinstance(node, str) and (problem := problem_of_string(node)):
            raise ConfigError(f"{place}: the string {shorten(node)} {problem}", fix="remove that character")


def _check_levels(text: str, place: str) -> None:
    level = 0
    for step in _JSON_STEP.finditer(text):
        level += {"[": 1, "{": 1, "]": -1, "}": -1}.get(step[0], 0)
        if level > MOST_LEVELS:
            line = text.count("\n", 0, step.start()) + 1
            raise ConfigError(
                f"{place}: line {line}: nested deeper than {MOST_LEVELS} levels", fix="remove brackets; no key needs that many"
            )


def _object(pairs: Iterable[tuple[str, Any]], text: str, place: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in pairs:
        if key in tree:
            lines = ", ".join(str(line) for line in _lines_of(text, re.escape(json.dumps(key)) + r"\s*:"))
            raise ConfigError(
                f"{place}: key {shorten(key)} is given twice in one object; it stands in lines {lines}", fix="keep one of them"
            )
        tree[key] = value
    return tree


def _integer(digits: str, text: str, place: str) -> int:
    value = read_integer(digits)
    return value if value is not None else _refuse(place, text, digits, f"{digits[:20]}... does not fit 64 bits")


def _float(digits: str, text: str, place: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(place, text, digits, f"{digits[:20]} is beyond what a number can hold")


def _refuse(place: str, text: str, token: str, problem: str) -> NoReturn:
    line = next(iter(_lines_of(text, re.escape(token))), 1)
    raise ConfigError(f"{place}: line {line}: {problem}", fix="write a finite number that fits 64 bits")


def _lines_of(text: str, pattern: str, most: int = 5) -> list[int]:
    """The lines in which a pattern is found, without repeats."""
    lines: dict[int, None] = {}
    for found in re.finditer(pattern, text):
        lines[text.count("\n", 0, found.start()) + 1] = None
        if len(lines) == most:
            break
    return list(lines)
