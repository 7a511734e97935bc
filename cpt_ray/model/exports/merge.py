"""A model out of others without training: tensor by tensor, in fp32, rounded once to the type of the export it begins with.

In: folders of safetensors with the same tensors. Out: an export with the files, sharding and types of the first. A file is
written header first, then tensor after tensor: memory holds one tensor and a few blocks of others, whatever the model's size.
A tied weight is in no file twice, and adapters were merged when the run was exported, so nothing is special about either.

Guarantee: where the models agree the result is theirs bit for bit, and so it is at the weights 0 and 1.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from cpt_ray.edges.storage import remove_tree
from cpt_ray.edges.store.transfer import INDEX
from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.family import require_same_tensors
from cpt_ray.model.bases.files import BaseFiles
from cpt_ray.model.exports.export import copy_around

Combine = Callable[[Sequence[Tensor]], Tensor]
"""Blocks of one tensor in fp32, of the export and then of the others, to the same block of the result."""

_BLOCK = 1 << 22
"""Elements that are computed at once: 16 MiB in fp32."""


def interpolate(weight: float) -> Combine:
    """Export and base: base + weight x (export - base), which is either of them at the ends and where they are equal."""

    def combine(blocks: Sequence[Tensor]) -> Tensor:
        export, base = blocks
        if weight in (0.0, 1.0):
            return export if weight else base
        return torch.where(export == base, export, torch.lerp(base, export, weight))

    return combine


def average(blocks: Sequence[Tensor]) -> Tensor:
    """The mean of all."""
    mean = blocks[0]
    # A running mean: exact where all are equal, unlike a sum that is divided.
    for number, block in enumerate(blocks[1:], start=2):
        mean = torch.where(block == mean, mean, mean + (block - mean) / number)
    return mean


def add_residual(scale: float) -> Combine:
    """Export, instruct and its base: export + scale x (instruct - base)."""

    def combine(blocks: Sequence[Tensor]) -> Tensor:
        export, instruct, base = blocks
        # Not the sum where they are equal: -0 + 0 is 0, which has other bits.
        return torch.where(instruct == base, export, export + scale * (instruct - base))

    return combine


def merge_exports(
    folder: Path, export: Path, others: Sequence[Path], combine: Combine, *, card: str, chat: Path | None = None
) -> None:
    """Write a merged model; the folder appears atomically.

    Args:
        folder: The result; replaced if it exists.
        export: The export that it begins with; its configuration, sharding and types are kept.
        others: Folders of the other models.
        combine: How the tensors become one.
        card: Text of the model card.
        chat: Folder whose tokenizer files, with their chat template, and whose generation settings it gets; None keeps those of
            the export.

    Raises:
        ConfigError: If a model has other tensors than the export.
    """
    for other in others:
        require_same_tensors(export, other)
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove_tree(temporary)
    temporary.mkdir(parents=True)
    weights = BaseFiles(export, "merges").weights
    for path in export.iterdir():
        if path not in weights and path.name != INDEX:  # which has the hashes of the weights that are merged
            shutil.copyfile(path, temporary / path.name)
    with ExitStack() as stack:
        sources = [_Tensors(BaseFiles(other, "merges"), stack) for other in others]
        for path in weights:
            _merge_file(path, temporary / path.name, sources, combine)
    if chat is not None:
        copy_around(chat, temporary)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    remove_tree(folder)
    os.replace(temporary, folder)


class _Tensors:
    """The tensors of a folder, its files opened when they are asked for and left to the stack to close."""

    def __init__(self, files: BaseFiles, stack: ExitStack) -> None:
        self._paths, self._stack = files.weights, stack
        self._open: list[Any] = []
        self._owner: dict[str, Any] = {}

    def get(self, name: str) -> Tensor:
        while name not in self._owner:
            opened = self._stack.enter_context(safe_open(self._paths[len(self._open)], framework="pt"))
            self._open.append(opened)
            self._owner.update(dict.fromkeys(opened.keys(), opened))
        found: Tensor = self._owner[name].get_tensor(name)
        return found


def _merge_file(path: Path, target: Path, sources: Sequence[_Tensors], combine: Combine) -> None:
    """Write one file: the header of `path`, then each tensor in its place."""
    with path.open("rb") as stream, safe_open(path, framework="pt") as own, target.open("wb") as out:
        size = stream.read(8)
        header = stream.read(int.from_bytes(size, "little"))
        out.write(size + header)
        places = {name: value["data_offsets"][0] for name, value in json.loads(header).items() if name != "__metadata__"}
        # Empty tensors share their place with the next one, and write nothing.
        for name in sorted(places, key=places.__getitem__):
            _write(out, _merge_tensor(own.get_tensor(name), [source.get(name) for source in sources], name, combine))


def _merge_tensor(own: Tensor, others: Sequence[Tensor], name: str, combine: Combine) -> Tensor:
    if not own.is_floating_point():
        if any(not torch.equal(own, other) for other in others):
            raise ConfigError(
                f"merges: {name} holds {own.dtype} and differs between the models", fix="merge models that agree on it"
            )
        return own
    merged = torch.empty(own.numel(), dtype=own.dtype)
    flat = [tensor.reshape(-1) for tensor in (own, *others)]
    for start in range(0, merged.numel(), _BLOCK):
        merged[start : start + _BLOCK] = combine([tensor[start : start + _BLOCK].float() for tensor in flat])
    return merged


def _write(out: BinaryIO, tensor: Tensor) -> None:
    if tensor.numel():
        out.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
