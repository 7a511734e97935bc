"""Ways to damage a base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 123\n"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def copy(base: Path, folder: Path) -> Path:
    """A private copy."""
    return Path(shutil.copytree(base, folder))


def change_json(folder: Path, name: str, **values: Any) -> None:
    """Set keys of a JSON file."""
    tree = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps({**tree, **values}))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> None:
    """Replace the weights."""
    state = change(load_file(folder / WEIGHTS))
    save_file({name: tensor.clone() for name, tensor in state.items()}, folder / WEIGHTS, metadata={"format": "pt"})


def prefix(folder: Path, text: str) -> None:
    """Put a prefix before every name."""
    rewrite(folder, lambda state: {text + name: tensor for name, tensor in state.items()})


def add(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> None:
    """Add a tensor."""
    rewrite(folder, lambda state: {**state, name: torch.zeros(2, 2).to(dtype)})


def drop(folder: Path, name: str) -> None:
    """Remove a tensor."""
    rewrite(folder, lambda state: {key: tensor for key, tensor in state.items() if key != name})


def shard(folder: Path) -> None:
    """Split the weights into two files with an index."""
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(state)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, half in halves.items():
        save_file({name: state[name] for name in half}, folder / file, metadata={"format": "pt"})
    owners = {name: file for file, half in halves.items() for name in half}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": owners}))


def change_index(folder: Path, **owners: str | None) -> None:
    """Change entries of the index; None removes one."""
    tree = json.loads((folder / INDEX).read_text())
    merged = {**tree["weight_map"], **owners}
    tree["weight_map"] = {name: file for name, file in merged.items() if file is not None}
    (folder / INDEX).write_text(json.dumps(tree))
