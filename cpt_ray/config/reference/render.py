"""The text of `configs/README.md`: an introduction for a newcomer, then every key with type, default and description.

In: the schema and `introduction.md` next to this module. Out: Markdown. The list is generated from the schema
(`python -m cpt_ray.config.reference > configs/README.md`), and a test compares the two, so they cannot disagree.
"""

import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cpt_ray.config.sections.runtime import parse_workers
from cpt_ray.config.study import StudyConfig
from cpt_ray.config.values import (
    check_folder,
    check_name,
    check_path,
    check_root,
    check_task,
    format_count,
    parse_bytes,
    parse_count,
    parse_seconds,
)

_NOTATIONS = {
    parse_count: "count",
    parse_bytes: "bytes",
    parse_seconds: "duration",
    parse_workers: "integer or `{min, max}`",
    check_name: "name",
    check_task: "name of a task",
    check_path: "path",
    check_folder: "path",
    check_root: "path or URL",
}
_REQUIRED = "**required**"
_WIDTH = 132


def render_reference() -> str:
    """The full text of `configs/README.md`."""
    parts = [Path(__file__).with_name("introduction.md").read_text(encoding="utf-8").rstrip()]
    for name, field in StudyConfig.model_fields.items():
        path, section = _section(name, field.annotation)
        parts.append(f"### `{path}`\n\n{_flat(section.__doc__)}")
        parts.append("\n".join(_entry(*row) for row in _rows(section, "")))
    return "\n\n".join(parts) + "\n"


def schema_keys() -> set[str]:
    """Every key of a study file as a dotted path, without the indices of lists and the names of entries."""
    keys: set[str] = set()
    for name, field in StudyConfig.model_fields.items():
        _, section = _section(name, field.annotation)
        keys |= {f"{name}.{key}" for key, *_ in _rows(section, "")}
    return keys


def section_of(name: str) -> type[BaseModel]:
    """The class of a section of the study file; of a list or of named entries, the class of one."""
    return _section(name, StudyConfig.model_fields[name].annotation)[1]


def _entry(key: str, kind: str, default: str, text: str) -> str:
    # A list and not a table: a Markdown table row cannot be wrapped.
    what = f"{kind}, {default}" if default == _REQUIRED else f"{kind}, default {default}"
    return textwrap.fill(
        f"- `{key}` ({what}): {text}", _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _section(name: str, kind: Any) -> tuple[str, type[BaseModel]]:
    """The path of a section as users write it, and its class: `models[]` is a list, `arms.NAME` is named by the user."""
    if get_origin(kind) is tuple:
        return f"{name}[]", get_args(kind)[0]
    if get_origin(kind) is dict:
        return f"{name}.NAME", get_args(kind)[1]
    return name, kind


def _rows(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for attribute, field in section.model_fields.items():
        name, kind = field.alias or attribute, _without_null(field.annotation)
        inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
        if isinstance(inner, type) and issubclass(inner, BaseModel) and not _notation(field.metadata):
            mark = "[]" if inner is not kind else ""
            yield from _rows(inner, f"{prefix}{name}{mark}.")
        else:
            yield f"{prefix}{name}", _type(field), _default(field), (field.description or "").replace("\n", " ")


def _without_null(kind: Any) -> Any:
    """The type without `None`, so that an optional section is listed like any other."""
    others = [one for one in get_args(kind) if one is not type(None)] if isinstance(kind, types.UnionType) else []
    return others[0] if len(others) == 1 else kind


def _type(field: FieldInfo) -> str:
    return _describe(field.annotation, field.metadata)


def _describe(kind: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    if quantity := _notation(metadata):
        return quantity
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _describe(arguments[0], arguments[1:])
    if origin is Literal:
        return " or ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(one) for one in arguments)
    if origin is tuple:
        return (
            f"list of {_describe(arguments[0])}" if Ellipsis in arguments else f"{len(arguments)} of {_describe(arguments[0])}"
        )
    if origin is dict:
        return f"mapping of {_describe(arguments[0])} to {_describe(arguments[1])}"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", JsonValue: "value"}
    return names.get(kind, str(kind))


def _notation(metadata: list[Any] | tuple[Any, ...]) -> str | None:
    """The notation of a value that has its own parser."""
    return next((_NOTATIONS[mark.func] for mark in metadata if getattr(mark, "func", None) in _NOTATIONS), None)


def _default(field: FieldInfo) -> str:
    value = field.get_default()
    if value is PydanticUndefined:
        return _REQUIRED
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value >= 10_000 and parse_count(format_count(value)) == value:
        return format_count(value) + ("B" if "bytes" in _type(field) else "")
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flat(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").strip().splitlines())
