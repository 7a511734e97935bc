"""Turn YAML into a tree of plain values, and refuse everything in YAML that is not one.

Used for study files and for the values of overrides. In: text. Out: dicts with strings as keys, lists, strings, integers,
floats, booleans and None. The tree is built from the parser's events, without recursion and without PyYAML's constructors:
these make objects of tags and dates, and they follow an alias without counting what it expands to.

Differences from YAML 1.1: a date is the string that was written, and so are `0x1F`, `017` and `1:30`, which YAML takes for
numbers in base 16, 8 and 60.

Guarantee: a tree of at most `MOST_VALUES` values or a `ConfigError` that names the line, in time that grows with the text.
"""

import copy
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from cpt_ray.config.plain_text import MOST_LEVELS, problem_of_string, read_integer, shorten
from cpt_ray.errors import ConfigError

MOST_VALUES = 50_000
_CHARACTERS_PER_VALUE = 16
"""A long string counts as several values: an alias repeats it in every file that holds the resolved study."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_TRUE = ("yes", "true", "on")
_MERGE = "<<"
_MERGED = object()
"""Stands for the key `<<` until its value has been read."""
_STRING = "tag:yaml.org,2002:str"


class YamlSyntaxError(ConfigError):
    """The text is not YAML at all."""


@dataclass
class _Open:
    """A list or section whose end has not been read."""

    line: int
    anchor: str | None
    items: list[Any] = field(default_factory=list)
    """Of a list: its entries. Of a section: keys and values by turns."""
    key_lines: dict[str, int] = field(default_factory=dict)
    is_mapping: bool = False
    values: int = 1
    levels: int = 0
    """Below this one."""
    merged: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Built:
    """A finished value, and what another copy of it costs."""

    value: Any
    values: int
    levels: int


def parse_yaml(text: str, place: str) -> Any:
    """Parse one YAML document.

    Args:
        text: The YAML.
        place: Where it is from; each message starts with it.

    Raises:
        YamlSyntaxError: If it is not YAML.
        ConfigError: If it holds anything but plain values: tags, other keys than strings, repeated keys, several documents,
            numbers beyond 64 bits, control characters, or aliases and nesting without measure.
    """
    if problem := problem_of_string(text):
        line = next(number for number, part in enumerate(text.split("\n"), start=1) if problem_of_string(part))
        raise ConfigError(f"{place}, line {line}: {problem}", fix="remove that character")
    builder = _Builder(place)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        context, what = getattr(error, "context", None), getattr(error, "problem", None) or error
        problem = " ".join(f"{context}: {what}".split() if context else str(what).split())
        raise YamlSyntaxError(f"{place}{where}: not valid YAML: {problem}", fix="correct that line") from None
    return builder.root


class _Builder:
    def __init__(self, place: str) -> None:
        self.root: Any = None
        self._place = place
        self._resolver: Any = yaml.resolver.Resolver()
        self._open: list[_Open] = []
        self._anchors: dict[str, _Built | None] = {}
        self._values = self._documents = 0

    def take(self, event: Any) -> None:
        """Take the parser's next event."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error(line, "a second document begins here", "keep one document, without `---` between its lines")
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event, line, allowed=_STRING)
            value = self._scalar(event, line)
            self._finish(_Built(value, 1 + len(event.value) // _CHARACTERS_PER_VALUE, 0), event.anchor, line, event)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._refuse_tag(event, line)
            self._begin(event, line)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._finish(self._copy(event.anchor, line), None, line, event)

    def _begin(self, event: Any, line: int) -> None:
        if len(self._open) >= MOST_LEVELS:
            raise self._error(line, f"nested deeper than {MOST_LEVELS} levels", "remove brackets; no key needs that many")
        if self._awaits_key():
            raise self._error(line, "a list or section is used as a key", "use a name as the key")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Open(line, event.anchor, is_mapping=isinstance(event, yaml.MappingStartEvent)))

    def _end(self) -> None:
        done = self._open.pop()
        value: Any = done.items
        if done.is_mapping:
            value = dict(zip(done.items[::2], done.items[1::2], strict=True))
            for merged in done.merged:
                value = {**merged, **value}
        self._finish(_Built(value, done.values, done.levels + 1), done.anchor, done.line, None)

    def _finish(self, built: _Built, anchor: str | None, line: int, event: Any) -> None:
        if anchor is not None:
            self._anchors[anchor] = built
        # What a list or section holds was counted when it was read.
        self._values += 1 if event is None else built.values
        if self._values > MOST_VALUES:
            raise self._error(line, f"more than {MOST_VALUES:,} values, aliases expanded", "use fewer or smaller aliases")
        if not self._open:
            self.root = built.value
            return
        parent = self._open[-1]
        parent.values += built.values
        parent.levels = max(parent.levels, built.levels)
        if len(self._open) + built.levels > MOST_LEVELS:
            raise self._error(line, f"nested deeper than {MOST_LEVELS} levels", "use fewer aliases inside each other")
        if self._awaits_key():
            self._add_key(parent, built.value, line, event)
        elif parent.is_mapping and parent.items[-1] is _MERGED:
            self._merge(parent, built.value, line)
        else:
            parent.items.append(built.value)

    def _awaits_key(self) -> bool:
        return bool(self._open) and self._open[-1].is_mapping and len(self._open[-1].items) % 2 == 0

    def _add_key(self, parent: _Open, key: Any, line: int, event: Any) -> None:
        if not isinstance(key, str):
            written = shorten(getattr(event, "value", key))
            raise self._error(line, f"key {written} is read as {shorten(key)}, not as a name", "put the key in quotes")
        is_merge = key == _MERGE and isinstance(event, yaml.ScalarEvent) and event.implicit[0]
        if key in parent.key_lines and not is_merge:
            raise self._error(
                line, f"key {shorten(key)} is given twice, first in line {parent.key_lines[key]}", "keep one of the two"
            )
        parent.key_lines[key] = line
        parent.items.append(_MERGED if is_merge else key)

    def _merge(self, parent: _Open, value: Any, line: int) -> None:
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            raise self._error(line, "`<<` merges sections, and this is none", "give the alias of a section")
        parent.items.pop()
        parent.merged += parts

    def _copy(self, anchor: str | None, line: int) -> _Built:
        if anchor is None or anchor not in self._anchors:
            raise YamlSyntaxError(f"{self._place}, line {line}: there is no anchor &{anchor}", fix="put the value in quotes")
        built = self._anchors[anchor]
        if built is None:
            raise self._error(line, f"&{anchor} contains itself", "remove the alias")
        if self._values + built.values > MOST_VALUES:  # before it is copied
            raise self._error(line, f"more than {MOST_VALUES:,} values, aliases expanded", "use fewer or smaller aliases")
        # A copy, because an override changes one place and not all that share an anchor.
        return _Built(copy.deepcopy(built.value), built.values, built.levels)

    def _scalar(self, event: Any, line: int) -> Any:
        text = event.value
        if problem := problem_of_string(text):
            raise self._error(line, f"a value {problem}", "remove that character")
        if not event.implicit[0] or event.tag is not None:
            return text
        kind = self._resolver.resolve(yaml.ScalarNode, text, (True, False)).rsplit(":", 1)[-1]
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in _TRUE
        if kind == "int" and _DECIMAL.fullmatch(text):
            value = read_integer(text)
            if value is None:
                raise self._error(line, f"{text[:20]}... does not fit 64 bits", "write a smaller number")
            return value
        return _float(text) if kind == "float" else text

    def _refuse_tag(self, event: Any, line: int, allowed: str | None = None) -> None:
        if event.tag is not None and event.tag != allowed:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(line, f"the tag {shorten(tag)} is not allowed", "remove the tag; put text in quotes")

    def _error(self, line: int, problem: str, fix: str) -> ConfigError:
        return ConfigError(f"{self._place}, line {line}: {problem}", fix=fix)


def _float(text: str) -> float | str:
    try:
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:  # `1:30.5`, which is in base 60
        return text
