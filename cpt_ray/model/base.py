"""Import of base models: a Hugging Face folder, a hub name, a GGUF file that is dequantized once, or random weights.

Out: a folder with safetensors and a fast tokenizer, which the other packages load with `load_model` and `load_tokenizer`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.packages import needed_for, resolve_package
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError
from cpt_ray.model.attention.isolation import use_document_attention
from cpt_ray.model.bases.files import TOKENIZER_FILES, BaseFiles
from cpt_ray.model.bases.init import build_new
from cpt_ray.model.bases.proof import prove_folder, require_gguf, require_names
from cpt_ray.model.bases.tokenizer import exact_tokenizer, keep_text_as_text, require_saved_exactly
from cpt_ray.model.bases.tokens import DEFINITION
from cpt_ray.model.bases.vocabulary import add_tokens
from cpt_ray.model.head import install_loss_head
from cpt_ray.model.layers.products import multiply_in_fp32_without_units
from cpt_ray.model.precision import PRECISIONS
from cpt_ray.model.shape import describe_model
from cpt_ray.records import ImportedModel

transformers_logging.disable_progress_bar()

_PRE_TOKENIZERS = {
    # transformers' GGUF loader builds a plain ByteLevel regardless of `tokenizer.ggml.pre`, and then merges digits that
    # SmolLM2 was trained to see one by one. Remove this once the loader reads that field.
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "gpt-2": None,
}


def is_gguf(config: ModelConfig) -> bool:
    """Whether the base is a GGUF file."""
    return config.base.endswith(".gguf")


def import_base(config: ModelConfig, folder: Path, *, tokenizer: Path | None = None) -> None:
    """Write the base model and its tokenizer into `folder` as safetensors and tokenizer.json, new tokens in both.

    Weights are bf16, those of a model from random weights fp32. Their metadata goes to `model.json`, so that later steps can
    read it without loading them.

    Args:
        config: The model in the study file.
        folder: Where to write.
        tokenizer: The folder of the tokenizer that the study trained for it, if it did.

    Raises:
        ConfigError: If the base is missing, not whole, cannot be trained, or needs custom code that is not trusted; if a GGUF
            names an unsupported pre-tokenizer; if its tokenizer cannot be reproduced; or if a new token is invalid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_gguf(config):
        model, found = _load_gguf(Path(resolve_package(os.path.expanduser(config.base))), config)
    elif config.is_new:
        found = _load_tokenizer(config, str(tokenizer or config.tokenizer))
        model = build_new(config, found)
    else:
        model, found = _load_folder(config)
    if config.new_tokens:
        add_tokens(model, found, config)
    model.save_pretrained(folder)
    found.save_pretrained(folder)
    if not config.trust_remote_code and (folder / DEFINITION).is_file():
        require_saved_exactly(folder, f"models.{config.name}")
    write_atomic(folder / ImportedModel.FILE, describe_model(model, found).to_json())


def load_model(path: str | Path, *, precision: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """Load a folder written by `import_base` or by an export, with document attention and a `LossHead`, in eval mode.

    Args:
        path: Folder.
        precision: `bf16`, `fp16` or `fp32`.
        trust_remote_code: Whether Python files in the folder may run.

    Raises:
        ConfigError: If its logits are computed in a way that `model.head` does not support.
    """
    dtype = PRECISIONS[precision].dtype
    if not torch.cuda.is_available():
        multiply_in_fp32_without_units(dtype)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, trust_remote_code=trust_remote_code)
    install_loss_head(model)
    use_document_attention(model)
    model.eval()
    return model.to("cuda") if torch.cuda.is_available() else model


def load_tokenizer(path: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder; with `split_special_tokens=True` it spells control tokens out that a text has."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    if (Path(path) / ImportedModel.FILE).is_file():
        keep_text_as_text(tokenizer, ImportedModel.of(Path(path)).control_tokens)
    return tokenizer


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a folder's tokenizer files into an export."""
    for path in source.iterdir():
        if path.name.startswith(TOKENIZER_FILES):
            shutil.copyfile(path, target / path.name)


def _load_folder(config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    key = f"models.{config.name}.base"
    path = resolve_package(os.path.expanduser(config.base))
    options: dict[str, Any] = {"revision": config.revision or "main", "trust_remote_code": config.trust_remote_code}
    if Path(path).is_dir():
        prove_folder(Path(path), key)
    try:
        # Safetensors only: another form is a pickle, which runs code when it is read.
        model, loading = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.bfloat16, output_loading_info=True, use_safetensors=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer or path, **options)
        definition = _definition(config.tokenizer or path, options["revision"])
    # A damaged weight file is a SafetensorError, tensors that do not fit the config a RuntimeError.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise ConfigError(
                f"{key}: {config.base!r} ships custom Python code, and models.{config.name}.trust_remote_code is false",
                fix="use a model that transformers supports; or read that code, pin models.*.revision, and set "
                "trust_remote_code: true, which runs it on every machine of the study with your permissions",
            ) from error
        raise ConfigError(
            f"{key}: cannot load {config.base!r}: {str(error).splitlines()[0]}",
            fix="use a folder with config.json and safetensors, a hub name that this machine can reach, or a .gguf file",
        ) from error
    # transformers only warns, fills missing ones with random numbers and continues.
    require_names(BaseFiles(Path(path), key), loading["missing_keys"], loading["unexpected_keys"])
    return model, exact_tokenizer(tokenizer, definition, f"models.{config.name}")


def _load_tokenizer(config: ModelConfig, place: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model from random weights."""
    place, revision = resolve_package(place), config.revision or "main"
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=config.trust_remote_code)
        definition = _definition(place, revision)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"models.{config.name}.tokenizer: cannot load {place!r}: {str(error).splitlines()[0]}",
            fix="use a folder with tokenizer.json, or a hub name that this machine can reach",
        ) from error
    return exact_tokenizer(tokenizer, definition, f"models.{config.name}")


def _definition(place: str, revision: str) -> Path | None:
    """The `tokenizer.json` of a folder or a hub model, if it has one."""
    found = cached_file(place, DEFINITION, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _load_gguf(path: Path, config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    with needed_for(f"models.{config.name}.base, a GGUF file,"):
        from gguf import GGUFReader

    require_gguf(path, f"models.{config.name}.base")
    fields = GGUFReader(str(path)).fields
    pre = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else "gpt-2"
    if pre not in _PRE_TOKENIZERS and config.tokenizer is None:
        raise ConfigError(
            f"{path}: its pre-tokenizer {pre!r} is not supported, and a wrong one silently changes token ids",
            fix="set models.*.tokenizer to a folder with the model's own tokenizer.json",
        )
    model, loading = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        output_loading_info=True,
    )
    require_names(BaseFiles(path, f"models.{config.name}.base"), loading["missing_keys"], ())
    if config.tokenizer is not None:
        return model, AutoTokenizer.from_pretrained(config.tokenizer, trust_remote_code=config.trust_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    if _PRE_TOKENIZERS[pre] is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = _PRE_TOKENIZERS[pre]
    return model, tokenizer
