"""A base as `cpt-ray init` needs it: proven, named, counted, and with the token that ends a text rather than a turn of a chat.

In: a folder, a GGUF file, `package://...`, or a name on the hub. Out: `Base`. Files are read by their headers, without torch;
of a name on the hub the size in the name counts.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.cli.init.texts import absolute
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.packages import SCHEME, resolve_package
from cpt_ray.errors import ConfigError, CptRayError
from cpt_ray.model.bases.files import BaseFiles
from cpt_ray.model.bases.gguf_header import read_header
from cpt_ray.model.bases.proof import prove_base
from cpt_ray.model.bases.tokens import ENDS_A_TEXT, ENDS_A_TURN, TokenizerFiles, vocabulary

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)
_NAME_CHARACTERS = 32


@dataclass(frozen=True)
class Base:
    """A base model."""

    name: str
    """Short, for run names."""
    base: str
    """As the study file has it."""
    parameters: float
    context: int | None
    """Tokens that it was made for, if its files say so."""
    separator: str | None
    """What ends a text, where that is not what its tokenizer ends a sequence with."""
    note: str
    """What is known of it, as a comment says it."""


def look_at_base(text: str, parameters: float | None = None) -> Base:
    """Prove a base as far as this machine can, and describe it.

    Args:
        text: As the user gives it.
        parameters: How many it has, if the user says so.

    Raises:
        ConfigError: If it is no base, or its size is unknown.
    """
    local = text.startswith((SCHEME, ".", "/", "~")) or Path(text).exists() or text.endswith(".gguf")
    base = absolute(text) if local and not text.startswith(SCHEME) else text
    if not local and _HUB_NAME.fullmatch(text) is None:
        raise ConfigError(f"--base {text}: no such folder, and no name on the hub either", fix=_FIX)
    model = ModelConfig(name="base", base=base)
    try:
        facts = prove_base(model, {})
    except CptRayError as error:
        raise ConfigError(f"--base {text}: {error.problem.removeprefix('models.base.base: ')}", fix=error.fix) from error
    if not local:
        count = parameters or _size_in_name(text)
        if count is None:
            raise ConfigError(
                f"--base {text}: is neither a folder nor a file here, and its name does not say how large it is",
                fix=f"if it is a name on the hub, give --parameters, such as --parameters 1.5B; else {_FIX}",
            )
        return Base(short_name(text.rpartition("/")[2]), base, count, None, None, facts.summary)
    path = Path(resolve_package(base))
    if path.is_file():
        return _of_gguf(path, base, parameters)
    files = BaseFiles(path, "--base")
    count = parameters or sum(math.prod(tensor.shape) for tensor in files.tensors.values())
    window = files.config.get("max_position_embeddings")
    return Base(
        short_name(path.name), base, count, window if isinstance(window, int) else None, _separator_of(path), facts.summary
    )


_FIX = "give a folder with config.json and safetensors, a .gguf file, or a name on the hub such as HuggingFaceTB/SmolLM2-135M"


def short_name(text: str) -> str:
    """A name for runs and folders of whatever a file or folder is called."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_NAME_CHARACTERS].strip("-") or "text"


def _size_in_name(text: str) -> float | None:
    found = _SIZE.findall(text)
    return float(found[-1][0]) * (1e9 if found[-1][1] in "bB" else 1e6) if found else None


def _separator_of(folder: Path) -> str | None:
    found = TokenizerFiles(folder, "--base")
    known = vocabulary(found.definition) if found.definition is not None else {}
    return _better_end(found.end_of_text, known)


def _better_end(end: str | None, known: dict[str, int]) -> str | None:
    """A token for the end of a text, if the tokenizer ends a sequence as a turn of a chat ends."""
    return next((token for token in ENDS_A_TEXT if token in known), None) if end in ENDS_A_TURN else None


def _of_gguf(path: Path, base: str, parameters: float | None) -> Base:
    header = read_header(path, "--base")
    count = parameters or header.parameters
    separator = _better_end(header.end_of_text, {token: number for number, token in enumerate(header.tokens)})
    name = re.sub(r"[._-]?(q\d\w*|bf16|f16|f32|instruct|chat)\b", "", path.stem, flags=re.IGNORECASE)
    note = f"GGUF file, {path.stat().st_size / 1e6:.0f} MB; dequantized once"
    return Base(short_name(name), base, count, header.context, separator, note)
