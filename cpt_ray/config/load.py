"""Read a study file: YAML, then `section.key=value` overrides, then the schema.

Every error names the file and the key; for an unknown key it also names the closest known one.
"""

import difflib
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from cpt_ray.config.plain_text import problem_of_string, read_text_file, shorten
from cpt_ray.config.study import StudyConfig
from cpt_ray.config.yaml_text import YamlSyntaxError, parse_yaml
from cpt_ray.errors import ConfigError

_NO_FILE = "give the path of a YAML file, e.g. configs/demo.yaml"
_MOST_PARTS = 32
_LONGEST_PART = 100
_STEPS = "train.budgets, in tokens"
_ELSEWHERE = {
    **dict.fromkeys(("lr", "max_lr", "peak_lr"), "train.learning_rate"),
    **dict.fromkeys(("batch_size", "train_batch_size", "gradient_accumulation_steps"), "train.global_batch_size, in rows"),
    **dict.fromkeys(("per_device_train_batch_size", "micro_batch", "device_batch_size"), "train.micro_batch_size"),
    **dict.fromkeys(("num_train_epochs", "epochs", "num_epochs", "max_steps", "max_tokens", "train_steps"), _STEPS),
    **dict.fromkeys(("warmup_steps", "warmup_ratio", "lr_warmup_steps"), "train.schedule.warmup, in tokens"),
    **dict.fromkeys(("sequence_length", "max_seq_length", "seq_len", "sequence_len"), "prepare.pack.sequence_length"),
    **dict.fromkeys(("block_size", "cutoff_len", "max_length"), "prepare.pack.sequence_length"),
    **dict.fromkeys(("bf16", "fp16", "dtype", "torch_dtype"), "train.precision"),
    **dict.fromkeys(("model_name_or_path", "base_model", "checkpoint_dir"), "models.0.base"),
    **dict.fromkeys(("output_dir", "out_dir"), "study.root"),
    **dict.fromkeys(("save_steps", "save_interval", "checkpoint_interval"), "train.checkpoint_every, in tokens"),
}
"""What other trainers call a key, to where it is here."""


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
    tree = parse_yaml(read_text_file(path, kind="study file", fix=_NO_FILE), str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top", fix="start from configs/demo.yaml")
    for override in overrides:
        _apply(tree, override)
    return parse_study(tree, place=str(path))


def parse_study(tree: dict[str, Any], *, place: str) -> StudyConfig:
    """Validate a tree of plain values; `place` starts each message.

    Raises:
        ConfigError: Names the first wrong key, what was seen and what is allowed.
    """
    try:
        return StudyConfig.model_validate(tree)
    except ValidationError as error:
        raise _translate(error, place) from None


def dump_study(config: StudyConfig, mask: Callable[[Any], Any] | None = None) -> str:
    """The resolved config as YAML.

    Args:
        config: The study.
        mask: Applied to the tree of plain values first; what is stored or shown is masked by `edges.redaction.redact`.
    """
    tree = config.model_dump(mode="json")
    # The tree and not the text: YAML may break a long URL over two lines.
    return yaml.safe_dump(mask(tree) if mask else tree, sort_keys=False, allow_unicode=True)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    parts = key.split(".")
    if not equals or not key or len(parts) > _MOST_PARTS:
        raise ConfigError(
            f"override {shorten(override)} does not have the form section.key=value", fix="e.g. train.learning_rate=1e-4"
        )
    if problem := problem_of_string(override):
        raise ConfigError(f"override {shorten(override)} {problem}", fix="remove that character")
    set_key(tree, key, _override_value(key, raw), said=f"override {shorten(override)}")


def set_key(tree: dict[str, Any], key: str, value: Any, *, said: str) -> None:
    """Set `section.key` in a tree of plain values; entries of lists are addressed by index or name.

    Args:
        tree: Of a study file; changed in place.
        key: Dotted.
        value: Its new value.
        said: Begins each message.

    Raises:
        ConfigError: If there is no such entry, or a part of the key is a value.
    """
    node: Any = tree
    parts = key.split(".")
    while True:
        step, parts = _step(node, parts, said)
        if not parts:
            node[step] = value
            return
        if isinstance(node, dict) and node.get(step) is None:
            node[step] = {}
        node = node[step]
        if not isinstance(node, (dict, list)):
            raise ConfigError(f"{said}: {step!r} is a value, not a section", fix="name a section of the study")


def _override_value(key: str, raw: str) -> Any:
    """The value as YAML; what is no YAML, or would lose what follows a ` #` as a comment, is the text as it stands."""
    try:
        value = parse_yaml(raw, f"override {key}")
    except YamlSyntaxError:
        return raw
    return raw.strip() if " #" in raw and isinstance(value, str) and raw.lstrip()[:1] not in ("'", '"') else value


def _step(node: Any, parts: list[str], said: str) -> tuple[Any, list[str]]:
    """The next key or index on the way, and the parts after it; of names with dots the longest one that exists."""
    names = [item.get("name") for item in node if isinstance(item, dict)] if isinstance(node, list) else list(node)
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in names:
            index = names.index(name) if isinstance(node, list) else name
            return index, parts[length:]
    if isinstance(node, dict):
        return parts[0], parts[1:]
    if re.fullmatch("[0-9]{1,9}", parts[0]) and int(parts[0]) < len(node):
        return int(parts[0]), parts[1:]
    raise ConfigError(
        f"{said}: no entry {parts[0]!r} in a list of {len(node)}",
        fix=f"use an index below {len(node)} or one of the names {', '.join(map(str, names))}",
    )


def _translate(error: ValidationError, place: str) -> ConfigError:
    # A misspelled required key is both missing and unknown; only the second error names what the user wrote.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    # Pydantic marks what is wrong with the name of an entry, not with its value, by `[key]`.
    loc = list(first["loc"])
    if loc[-1:] == ["[key]"] and first["type"] != "extra_forbidden":
        loc.pop()
    key = ".".join(_written(part) for part in loc)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        nearest = difflib.get_close_matches(str(loc[-1])[:_LONGEST_PART], known, n=1, cutoff=0.5)
        meant = _ELSEWHERE.get(str(loc[-1])) or (".".join([*map(_written, loc[:-1]), nearest[0]]) if nearest else None)
        fix = f"did you mean {meant}?" if meant else f"known keys: {', '.join(known)}"
        return ConfigError(f"{place}: unknown key {key}{more}", fix=fix)
    if first["type"] == "missing":
        return ConfigError(f"{place}: missing key {key}{more}", fix=f"add {key}; configs/README.md describes it")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        message = f"expected a section with keys {', '.join(_known_keys(loc))}"
    if key:
        seen = "" if ", saw " in message else f", saw {shorten(first['input'])}"
        return ConfigError(
            f"{place}: {key}: {message}{seen}{more}",
            fix=f"change {key}; configs/README.md lists the allowed values",
        )
    return ConfigError(f"{place}: {message}{more}", fix="change one of the keys that the message names")


def _written(part: int | str) -> str:
    """A part of a key as it can be shown in a message."""
    if isinstance(part, int) or (len(part) <= _LONGEST_PART and part.isascii() and part.isprintable()):
        return str(part)
    return ascii(part[:_LONGEST_PART])


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
