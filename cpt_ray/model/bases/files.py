"""The files of a base in a folder: which of them an import reads, and what their headers say of the tensors in them.

In: a Hugging Face folder. Out: `BaseFiles`. A safetensors file begins with the length of its header (8 bytes), then the header
(JSON): name, type, shape and place of each tensor; so a whole base is described by a few kilobytes per file.

Guarantee: weights are read only in the form that holds no code; a pointer in place of a file, a file that ends early and an
index that contradicts its files are refused by name.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cpt_ray.errors import ConfigError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_HEADER = 100_000_000
"""Limit of the format's own reader."""
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2}
_READ = (".json", ".jinja", ".model", ".py", ".tiktoken", ".txt")
"""Endings of the other files that loading a model or tokenizer may read."""
TOKENIZER_FILES = ("tokenizer", "special_tokens", "chat_template", "vocab", "merges", "added_tokens")
"""Begins the names of the files of a tokenizer."""
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_FETCH = "download the base again, for example with `git lfs pull` in its folder"


class Tensor(NamedTuple):
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BaseFiles:
    """A folder that holds a base.

    Args:
        folder: The folder.
        key: The key of the study file that names it, for messages.
    """

    folder: Path
    key: str

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`.

        Raises:
            ConfigError: If it is missing, a pointer or no JSON object.
        """
        return self.json("config.json")

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder.

        Raises:
            ConfigError: If it is missing, a pointer or no JSON object.
        """
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise self.refused(f"{path}: {error.strerror}", fix=_FETCH) from None
        self._refuse_pointer(path, data)
        try:
            tree = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.refused(f"{path} is not JSON: {str(error).splitlines()[0]}", fix=_FETCH) from None
        if not isinstance(tree, dict):
            raise self.refused(f"{path} is not a JSON object", fix=_FETCH)
        return tree

    def has(self, name: str) -> bool:
        """Whether the folder has a file of that name, or a link of that name to nothing, which is then refused when read."""
        path = self.folder / name
        return path.is_file() or path.is_symlink()

    @cached_property
    def weights(self) -> tuple[Path, ...]:
        """The weight files in use, as transformers chooses them: the single file, else those of the index.

        Raises:
            ConfigError: If there are none, or none that can be read safely.
        """
        if self.has(SINGLE):
            return (self.folder / SINGLE,)
        if self.has(INDEX):
            return tuple(self.folder / name for name in sorted(set(self._indexed.values())))
        names = sorted(path.name for path in self.folder.iterdir() if path.is_file())
        if loose := [name for name in names if name.endswith(".safetensors")]:
            raise self.refused(
                f"{self.folder} has {loose[0]}, but neither {SINGLE} nor {INDEX}, which says what belongs to the model",
                fix=f"rename a single weight file to {SINGLE}; for several, download the index as well",
            )
        if pickled := [name for name in names if name.endswith(_PICKLED)]:
            raise self.refused(
                f"{self.folder} holds its weights as {pickled[0]}: a pickle, which can run code when it is read",
                fix="convert them once where you trust them: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW)",
            )
        raise self.refused(f"{self.folder} has no weights: neither {SINGLE} nor {INDEX}", fix=_FETCH)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the weights in use, by name.

        Raises:
            ConfigError: If a file is a pointer, ends early or has no header, or index and files disagree.
        """
        found: dict[str, Tensor] = {}
        owners: dict[str, str] = {}
        for path in self.weights:
            for name, tensor in self._header(path).items():
                if name in found:
                    raise self.refused(f"tensor {name} is in two files: {owners[name]} and {path.name}", fix=_FETCH)
                found[name], owners[name] = tensor, path.name
        if not self.has(SINGLE):
            self._compare(owners)
        return found

    @property
    def read(self) -> tuple[Path, ...]:
        """Every file that an import may read: weights in use, configuration, tokenizer, code."""
        return (*self.weights, *tokenizer_files(self.folder))

    def refused(self, problem: str, *, fix: str) -> ConfigError:
        """The error for this base."""
        return ConfigError(f"{self.key}: {problem}", fix=fix)

    @cached_property
    def _indexed(self) -> dict[str, str]:
        listed = self.json(INDEX).get("weight_map")
        if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
            raise self.refused(f"{self.folder / INDEX} has no weight_map from tensors to files", fix=_FETCH)
        if outside := [name for name in listed.values() if Path(name).name != name]:
            raise self.refused(f"{self.folder / INDEX} names {outside[0]!r}, which is not in the folder", fix=_FETCH)
        return listed

    def _compare(self, owners: dict[str, str]) -> None:
        listed = self._indexed
        for name, owner in listed.items():
            if owners.get(name) != owner:
                where = f"it is in {owners[name]}" if name in owners else "it is in none of the files"
                raise self.refused(f"{INDEX} says that {owner} holds {name}, but {where}", fix=_FETCH)
        if extra := sorted(owners.keys() - listed.keys()):
            raise self.refused(f"{owners[extra[0]]} holds {extra[0]}, which {INDEX} does not list", fix=_FETCH)

    def _header(self, path: Path) -> dict[str, Tensor]:
        """The tensors of one file; the file is as long as its header says."""
        try:
            size = path.stat().st_size
            with path.open("rb") as stream:
                start = stream.read(max(8, len(_POINTER)))
                self._refuse_pointer(path, start)
                length = int.from_bytes(start[:8], "little")
                if len(start) < 8 or length > min(_LONGEST_HEADER, size - 8):
                    raise self.refused(f"{path} ({size} bytes) is not a whole safetensors file", fix=_FETCH)
                stream.seek(8)
                header = json.loads(stream.read(length))
            tensors = {name: value for name, value in header.items() if name != "__metadata__"}
            end = max((int(value["data_offsets"][1]) for value in tensors.values()), default=0)
            found = {name: Tensor(str(value["dtype"]), tuple(map(int, value["shape"]))) for name, value in tensors.items()}
            spans = {name: value["data_offsets"][1] - value["data_offsets"][0] for name, value in tensors.items()}
        except OSError as error:
            raise self.refused(f"{path}: {error.strerror}", fix=_FETCH) from None
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise self.refused(f"{path} does not begin with a safetensors header", fix=_FETCH) from None
        if 8 + length + end != size:
            word = "ends early" if 8 + length + end > size else "is longer than its header says"
            raise self.refused(f"{path} {word}: {size} bytes, but its header says {8 + length + end}", fix=_FETCH)
        for name, tensor in found.items():
            wide = _BYTES.get(tensor.dtype)
            if wide is not None and spans[name] != wide * math.prod(tensor.shape):
                raise self.refused(f"{path}: tensor {name} does not fill its place in the file", fix=_FETCH)
        return found

    def _refuse_pointer(self, path: Path, start: bytes) -> None:
        if start.startswith(_POINTER):
            raise self.refused(f"{path} is a Git LFS pointer, not the file itself", fix=_FETCH)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a folder that loading a tokenizer or a configuration may read: all but weights and what is for people."""
    return sorted(path for path in folder.iterdir() if path.suffix in _READ and path.name[0] != "." and path.is_file())
