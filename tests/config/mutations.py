"""Spoiled study files: a valid one with a few seeded mutations, of its tree or of its bytes.

As a program, `python -m tests.config.mutations FOLDER FIRST COUNT` reads COUNT mutations from seed FIRST on, each within ten
seconds, and prints `SEED accepted` or `SEED refused` for each; anything else that is raised ends it with a traceback.
"""
# ruff: noqa: E501  (lists of odd values)

from __future__ import annotations

import copy
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.load import dump_study, load_study
from cpt_ray.errors import ConfigError
from tests.config.conftest import _TREE

LIMIT_S = 10
_DEEPSPEED = {
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "pin_memory": True}, "reduce_bucket_size": "auto"},
}
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**400, 1.5, float("inf"), float("nan"), "", "x" * 100_000, "../../../evil", "a\nb", "1e999", "-5",
    "9" * 400, "400M", "1e400", "data:,x", "zip://a::b", "hf://", "reference://", "s3://bucket", "~", "\u202e", "con", "0x1F", "*", "[", "%s",
    "{}", [], [[]], {}, {"a": {"b": {"c": 1}}}, [None], [1, "a"], ["x"] * 1000, {"": 1}, {"name": "x"}, "2024-99-99", "1:30", "\ufeff",
)  # fmt: skip
_TEXTS = (
    "!!int abc", "!!python/object/apply:os.system [exit]", "!!binary x", "!!timestamp 2024-99-99", "2024-13-45", "2024-02-30 25:61:61",
    "{[1]: 2}", "{{a: 1}: 2}", "{1: 2}", "? [a]", "&a [*a]", "*a", "<<: 1", "{<<: [1]}", "[" * 1500, "{a: " * 1500, "9" * 5000, "1e999",
    "1.0e+999", '"\\0"', '"\\ud800"', "'", '"', "|", ">", "---", "...", "\t", "\0", "\x1b[2J", "\x85", "%TAG ! x", "@", "`", "a: b: c",
    "!!set {a}", "!!omap [a: 1]", "!!merge x", "!!value =", "=", "0o17", "0b2", "1_", "._", "+.inf", "~", "-", ":", "?", "#", "\ufeff", "\u2028",
    "!<tag:x> y", "! x",
)  # fmt: skip
_BYTES = (b"\xff\xfe", b"\x00", b"\xed\xa0\x80", b"\xc3", b"\r", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80")


def mutate(seed: int) -> tuple[bytes, bytes, tuple[str, ...]]:
    """The bytes of a study file, those of its DeepSpeed JSON, and overrides."""
    rng = random.Random(seed)
    tree, deepspeed = copy.deepcopy(_TREE), copy.deepcopy(_DEEPSPEED)
    kind = rng.choice(("tree", "text", "bytes", "deepspeed", "json", "override", "lines"))
    for _ in range(rng.randint(1, 3) if kind in ("tree", "deepspeed") else 0):
        _spoil(tree if kind == "tree" else deepspeed, rng)
    # A width that keeps each value in its line, so that a mutated line is one value.
    text = yaml.safe_dump(tree, sort_keys=False, width=10**6)
    written = json.dumps(deepspeed, indent=1)
    if kind == "text":
        text = _replace_value(text, rng)
    if kind == "lines":
        text = _shuffle_lines(text, rng)
    if kind == "json":
        written = _replace_value(written, rng)
    study = text.encode("utf-8", "surrogatepass")
    if kind == "bytes":
        place = rng.randrange(len(study))
        study = study[:place] + rng.choice(_BYTES) + study[place + rng.randrange(3) :]
    overrides = (f"{_key(tree, rng)}={rng.choice(_TEXTS)}",) if kind == "override" else ()
    return study, written.encode("utf-8", "surrogatepass"), overrides


def _spoil(tree: Any, rng: random.Random) -> None:
    node, key = rng.choice([(parent, key) for parent, key in _places(tree) if parent])
    action = rng.choice(("set", "set", "set", "delete", "rename"))
    if action == "rename" and isinstance(node, dict):
        node[rng.choice(("", "../x", "a\nb", "x" * 300, "con", "[key]", "0", "__root__", "\u0430rm"))] = node.pop(key)
    elif action == "delete":
        del node[key]
    else:
        node[key] = copy.deepcopy(rng.choice(_VALUES))


def _places(node: Any) -> list[tuple[Any, Any]]:
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [*((node, key) for key, _ in items), *(place for _, value in items for place in _places(value))]


def _replace_value(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    number = rng.choice([at for at, line in enumerate(lines) if ":" in line])
    lines[number] = f"{lines[number].partition(':')[0]}: {rng.choice(_TEXTS)}"
    return "\n".join(lines)


def _shuffle_lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    number = rng.randrange(len(lines))
    line = lines[number]
    change = rng.choice(([line, line], [], [f" {line}"], [line.lstrip()], [f"- {line}"], [f"{line}:"], [f"{line} &x", line]))
    return "\n".join([*lines[:number], *change, *lines[number + 1 :]])


def _key(tree: dict[str, Any], rng: random.Random) -> str:
    known = [f"{section}.{key}" for section, value in tree.items() if isinstance(value, dict) for key in value]
    return rng.choice(
        [*known, "models.tiny.base", "sources.²", "sources.99999999999999999999.name", ".", "..", "a" + ".b" * 2000]
    )


def outcome(folder: Path, seed: int) -> str:
    """Read one mutation: `accepted` or `refused`. Whatever is accepted can be written down again.

    Raises:
        Exception: Anything but a refusal; `TimeoutError` after `LIMIT_S`.
    """
    study, deepspeed, overrides = mutate(seed)
    path, json_path = folder / "study.yaml", folder / "ds.json"
    path.write_bytes(study)
    json_path.write_bytes(deepspeed)
    signal.alarm(LIMIT_S)
    try:
        dump_study(load_study(path, overrides))
        load_deepspeed(json_path)
    except ConfigError as error:
        if not error.fix or len(str(error)) > 4000:
            raise AssertionError(f"a message of {len(str(error))} characters, with fix {error.fix!r}") from error
        return "refused"
    finally:
        signal.alarm(0)
    return "accepted"


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"took more than {LIMIT_S} s")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _too_slow)
    first, count = int(sys.argv[2]), int(sys.argv[3])
    for number in range(first, first + count):
        sys.stdout.write(f"{number} ")
        sys.stdout.flush()
        sys.stdout.write(f"{outcome(Path(sys.argv[1]), number)}\n")
