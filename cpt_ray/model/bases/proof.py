"""Proof of a base before anything is prepared: whole, trainable, long enough, with a tokenizer that fits.

In: the study's models. Out: what was found, as `BaseFacts`, or an error. Reads configuration, headers and tokenizer, never the
weights themselves, and neither torch nor transformers. What only they can tell is checked at import, which precedes all text.
A model that starts from random weights has nothing to read: it is proven by building a part of it (`model.bases.init`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.config.sections.models.init import END_OF_TEXT
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import ConfigError
from cpt_ray.model.bases import tokens
from cpt_ray.model.bases.files import BaseFiles
from cpt_ray.model.bases.kinds import looks_like_path, require_folder_of_model, require_trainable
from cpt_ray.model.bases.names import expected_names, is_derived, wrapper_of
from cpt_ray.model.bases.window import check_window

_NOT_LOOKED_UP = "NOT LOOKED UP: a model of the hub is checked when it is imported"


@dataclass(frozen=True)
class BaseFacts:
    """What was found out about a base."""

    model: str
    summary: str
    """Kind, tensors and separator, in a line."""
    warnings: tuple[str, ...] = ()
    chat_template: bool = False
    """Whether a folder carries one."""


def prove_base(model: ModelConfig, lengths: Mapping[str, int]) -> BaseFacts:
    """Prove one base.

    Args:
        model: The model in the study file.
        lengths: Key of the study file to a length of rows in tokens.

    Raises:
        ConfigError: If the base cannot be trained as the study asks.
    """
    key = f"models.{model.name}"
    if model.is_new:
        return _prove_new(model, lengths)
    path = Path(resolve_package(model.base)).expanduser()
    if path.is_file() or str(path).endswith(".gguf"):
        require_gguf(path, f"{key}.base")
        return BaseFacts(
            model.name, f"GGUF file, {path.stat().st_size / 1e6:.1f} MB; separator {model.separator or 'told at import'}"
        )
    if not path.is_dir():
        if looks_like_path(model.base):
            raise ConfigError(
                f"{key}.base: {path}: no such folder",
                fix="use a folder with config.json and safetensors, a hub name or a .gguf file",
            )
        return BaseFacts(model.name, _NOT_LOOKED_UP)
    files = prove_folder(path, f"{key}.base")
    warnings = check_window(files, lengths)
    separator, more = _prove_tokenizer(model, files)
    name = (files.config.get("architectures") or [files.config.get("model_type")])[0]
    summary = f"{name}, {len(files.tensors)} tensors in {len(files.weights)} files; separator {separator or 'told at import'}"
    chat = tokens.TokenizerFiles(path, f"{key}.base").has_chat_template
    return BaseFacts(model.name, summary, (*warnings, *more), chat)


def _prove_new(model: ModelConfig, lengths: Mapping[str, int]) -> BaseFacts:
    from cpt_ray.model.bases.init import prove_new  # imports torch, which a study of trained bases need not pay for here

    separator, warnings = END_OF_TEXT, list[str]()
    if model.tokenizer is not None:
        folder = Path(resolve_package(model.tokenizer)).expanduser()
        if not folder.is_dir() and looks_like_path(model.tokenizer):
            raise ConfigError(
                f"models.{model.name}.tokenizer: {folder}: no such folder",
                fix="use a folder with tokenizer.json, or a hub name",
            )
        found, warnings = _prove_tokenizer(model, BaseFiles(folder, f"models.{model.name}.tokenizer"))
        separator = found or "told at import"
    elif model.separator not in (None, END_OF_TEXT):
        raise ConfigError(
            f"models.{model.name}.separator is {model.separator!r}, but a learned tokenizer has {END_OF_TEXT!r}",
            fix=f"leave models.{model.name}.separator out",
        )
    return BaseFacts(model.name, f"{prove_new(model, lengths)}; separator {separator}", tuple(warnings))


def prove_folder(folder: Path, key: str) -> BaseFiles:
    """Prove that a folder holds a whole causal language model whose weights can be trained.

    Raises:
        ConfigError: Naming what is wrong.
    """
    files = BaseFiles(folder, key)
    require_folder_of_model(files)
    require_trainable(files)
    _require_whole(files)
    return files


def require_gguf(path: Path, key: str) -> None:
    """Refuse a file that is no GGUF file, or only a pointer to one.

    Raises:
        ConfigError: Naming the file.
    """
    if not path.is_file():
        raise ConfigError(f"{key}: {path}: no such GGUF file", fix="check models.*.base")
    with path.open("rb") as stream:
        start = stream.read(8)
    if not start.startswith(b"GGUF"):
        what = "a Git LFS pointer, not the file itself" if start == b"version " else "not a GGUF file"
        raise ConfigError(f"{key}: {path} is {what}", fix="give a .gguf file, or a folder with config.json and safetensors")


def require_names(files: BaseFiles, missing: Collection[str], unexpected: Collection[str]) -> None:
    """Refuse a base whose tensors are not those of its architecture.

    Raises:
        ConfigError: With how many are missing and unexpected, and an example of each.
    """
    if not missing and not unexpected:
        return
    parts = [f"lack {len(missing)} of the model's weights, including {min(missing)}"] if missing else []
    parts += [f"hold {len(unexpected)} tensors that the model does not have, including {min(unexpected)}"] if unexpected else []
    prefix = wrapper_of(unexpected)
    fix = "download the base again, or use one that is a complete causal language model"
    if prefix:
        fix = f"the names begin with {prefix!r}, left by a wrapper: save the model inside it, or rename the tensors"
    raise files.refused(f"the files of {files.folder} {' and '.join(parts)}", fix=fix)


def _require_whole(files: BaseFiles) -> None:
    names = frozenset(name for name in files.tensors if not is_derived(name))
    expected = expected_names(files.config)
    if expected is None:
        require_names(files, (), [name for name in names if wrapper_of([name])])
        return
    # As transformers does: the files of a body alone lack its prefix.
    if not any(name.startswith(expected.body) for name in names) and wrapper_of(names) is None:
        names = frozenset(name if name in expected.needed | expected.allowed else expected.body + name for name in names)
    require_names(files, expected.needed - names, names - expected.needed - expected.allowed)


def _prove_tokenizer(model: ModelConfig, files: BaseFiles) -> tuple[str | None, list[str]]:
    """The separator as far as the files tell it, and warnings."""
    key = f"models.{model.name}"
    folder = files.folder
    if model.tokenizer is not None:
        folder = Path(resolve_package(model.tokenizer)).expanduser()
        if not folder.is_dir():
            return model.separator, []
    found = tokens.TokenizerFiles(folder, f"{key}.{'tokenizer' if model.tokenizer else 'base'}")
    if found.definition is None:
        return model.separator or found.end_of_text, [f"{key}: {folder} has no tokenizer.json; it is converted at import"]
    known = tokens.vocabulary(found.definition)
    separator = model.separator or found.end_of_text
    if model.separator is not None and model.separator not in known:
        raise ConfigError(
            f"{key}.separator is {model.separator!r}, which is not a single token of the tokenizer",
            fix=f"use one of its special tokens ({', '.join(sorted(tokens.control_tokens(found.definition)))})",
        )
    if not model.is_new:  # the vocabulary of a new model is its tokenizer's
        _require_rows(files, tokens.largest_text_id(found.definition), known.get(separator or "", -1))
    warning = tokens.chat_end_warning(separator, known, key) if separator else None
    return separator, [warning] if warning else []


def _require_rows(files: BaseFiles, largest: int, separator: int) -> None:
    rows = files.config.get("vocab_size")
    if isinstance(rows, int) and max(largest, separator) >= rows:
        raise files.refused(
            f"the tokenizer has ids up to {max(largest, separator)}, but the model's vocabulary is {rows}",
            fix="use the tokenizer that came with the model",
        )
