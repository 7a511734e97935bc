"""Read a study file: YAML, then `section.key=value` overrides, then the schema.

Every error names the file and the key; for an unknown key it also names the closest known one.
"""

import difflib
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import ConfigError


def load_study(path: str | Path, overrides: tuple[str, ...] = ()) -> StudyConfig:
    """Read and validate the study file at `path`.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings; the value is YAML; list entries are addressed by index or name
            (`models.0.base=...`, `sources.news.limit_documents=100`).

    Raises:
        ConfigError: If the file is missing or not YAML, an override names no entry, or the schema refuses a value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such study file", fix="give the path of a YAML file, e.g. configs/demo.yaml") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", fix="check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}", fix="save the file as UTF-8") from error
    try:
        tree = yaml.load(text, Loader=_StudyLoader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}", fix="correct the line that the message names") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top", fix="start from configs/demo.yaml")
    for override in overrides:
        _apply(tree, override)
    return parse_study(tree, place=str(path))


class _StudyLoader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys; plain YAML silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a section", node.start_mark, f"key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def parse_study(tree: dict[str, Any], *, place: str) -> StudyConfig:
    """Validate a tree of plain values; `place` starts each message.

    Raises:
        ConfigError: Names the first wrong key, what was seen and what is allowed.
    """
    try:
        return StudyConfig.model_validate(tree)
    except ValidationError as error:
        raise _translate(error, place) from None


def dump_study(config: StudyConfig) -> str:
    """The resolved config as YAML, as saved next to every artifact."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"override {override!r} does not have the form section.key=value", fix="e.g. train.learning_rate=1e-4"
        )
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError:
        value = raw
    node: Any = tree
    parts = key.split(".")
    for part in parts[:-1]:
        if isinstance(node, list):
            node = node[_list_index(node, part, override)]
        else:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        if not isinstance(node, (dict, list)):
            raise ConfigError(f"override {override!r}: {part!r} is a value, not a section", fix="name a section of the study")
    if isinstance(node, list):
        node[_list_index(node, parts[-1], override)] = value
    else:
        node[parts[-1]] = value


def _list_index(items: list[Any], part: str, override: str) -> int:
    if part.isdigit() and int(part) < len(items):
        return int(part)
    names = [item.get("name") for item in items if isinstance(item, dict)]
    if part in names:
        return names.index(part)
    raise ConfigError(
        f"override {override!r}: no entry {part!r} in a list of {len(items)}",
        fix=f"use an index below {len(items)} or one of the names {', '.join(map(str, names))}",
    )


def _translate(error: ValidationError, place: str) -> ConfigError:
    # A misspelled required key is both missing and unknown; only the second error names what the user wrote.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    loc = [part for part in first["loc"] if part != "__root__"]
    key = ".".join(str(part) for part in loc)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        nearest = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
        fix = f"did you mean {'.'.join([*map(str, loc[:-1]), nearest[0]])}?" if nearest else f"known keys: {', '.join(known)}"
        return ConfigError(f"{place}: unknown key {key}{more}", fix=fix)
    if first["type"] == "missing":
        return ConfigError(f"{place}: missing key {key}{more}", fix=f"add {key}; configs/README.md describes it")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        message = f"expected a section with keys {', '.join(_known_keys(loc))}"
    if key:
        seen = "" if ", saw " in message else f", saw {first['input']!r}"
        return ConfigError(
            f"{place}: {key}: {message}{seen}{more}",
            fix=f"change {key}; configs/README.md lists the allowed values",
        )
    return ConfigError(f"{place}: {message}{more}", fix="change one of the keys that the message names")


def _known_keys(loc: list[int | str]) -> list[str]:
    kind: Any = StudyConfig
    for part in loc:
        kind = _field_type(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


def _field_type(kind: Any, part: int | str) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        kind = field.annotation if field else None
    elif get_origin(kind) in (tuple, list):
        kind = get_args(kind)[0]
    elif get_origin(kind) is dict:
        kind = get_args(kind)[1]
    if get_origin(kind) in (Union, types.UnionType):
        kind = next((a for a in get_args(kind) if a is not type(None)), None)
    return kind
