"""The documents of the repository, what in them a reader might type, and a study to lay a page's part of one over."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BASE = """
study: {name: recipes, root: runs/recipes}
models: [{name: base, base: PATH}]
sources:
  - {name: contracts, role: domain, path: contracts}
  - {name: legal, role: domain, path: legal}
  - {name: web, role: general, path: web}
  - {name: news, role: general, path: news}
arms:
  contracts: {role: domain, mix: {contracts: 1.0}}
  legal: {role: domain, mix: {legal: 1.0}}
  control: {role: control, mix: {web: 1.0}}
train: {budgets: [1M], learning_rate: 1.0e-4, global_batch_size: 8, deepspeed: ds_configs/zero2_bf16.json}
evaluate: {exams: [{name: bar_exam, label: bar exam, path: "exams/*.jsonl"}]}
"""


def tracked() -> list[Path]:
    """The files of the repository, relative to it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listed.stdout.split("\0") if name]


def documents() -> list[Path]:
    """All Markdown files but those of tests."""
    return [ROOT / path for path in tracked() if path.suffix == ".md" and path.parts[0] != "tests"]


def code_of(text: str) -> str:
    """Code spans, fenced blocks and indented blocks: what a reader might type."""
    fenced = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```\w*\n.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"^ {4}(.*)$", rest, re.MULTILINE)
    return "\n".join([*fenced, *indented, *re.findall(r"`([^`\n]+)`", rest)])


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def overlay(below: Any, above: Any) -> Any:
    """`above` laid over `below`: mappings key by key, lists of named entries by name; a mix replaces another."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: value if key == "mix" else overlay(below.get(key), value) for key, value in above.items()}}
    if isinstance(below, list) and above and isinstance(above[0], dict) and "name" in above[0]:
        return list({one["name"]: one for one in (*below, *above)}.values())
    return above


def study_with(part: str) -> dict[str, Any]:
    """A study that has what a page's block shows."""
    whole: dict[str, Any] = overlay(yaml.safe_load(BASE), yaml.safe_load(part))
    return whole
