"""Base models in: a Hugging Face folder, a hub name, or a GGUF file that is dequantised once into a folder.

Out: a folder with safetensors and a fast tokenizer, which every other room loads with `load_model` and `load_tokenizer`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from cpt_ray.config.train import ModelConfig
from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import ConfigError
from cpt_ray.model.isolation import use_document_attention

transformers_logging.disable_progress_bar()

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

_PRE_TOKENIZERS = {
    # transformers' GGUF loader builds a plain ByteLevel whatever `tokenizer.ggml.pre` says, and then merges digits that
    # SmolLM2 was trained to see one by one. Remove when the loader reads that field.
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "gpt-2": None,
}


def is_gguf(config: ModelConfig) -> bool:
    """Whether the base is a GGUF file."""
    return config.base.endswith(".gguf")


def import_base(config: ModelConfig, folder: Path) -> None:
    """Write the base model and its tokenizer into `folder` as safetensors (bf16) and tokenizer.json.

    Raises:
        ConfigError: If the base is not there, or a GGUF names a pre-tokenizer that is not known here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_gguf(config):
        model, tokenizer = _load_gguf(Path(resolve_package(config.base)))
    else:
        model, tokenizer = _load_folder(config)
    if config.tokenizer is not None:
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_model(path: str | Path, *, precision: str) -> PreTrainedModel:
    """Load a folder written by `import_base` or by an export, with document attention, in eval mode.

    Args:
        path: Folder.
        precision: `bf16` or `fp32`.

    Raises:
        ConfigError: If its logits are more than hidden states times the output embedding.
    """
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=DTYPES[precision])
    _require_plain_logits(model)
    use_document_attention(model)
    model.eval()
    return model.to("cuda") if torch.cuda.is_available() else model


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    return tokenizer


def separator_of(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """The token written after every document.

    Raises:
        ConfigError: If the study names one that the tokenizer does not know, or neither names one.
    """
    separator = config.separator or tokenizer.eos_token
    if not isinstance(separator, str):
        raise ConfigError(
            f"models.{config.name}: the tokenizer has no end-of-text token", fix=f"set models.{config.name}.separator"
        )
    if separator not in tokenizer.get_vocab():
        special = ", ".join(sorted(tokenizer.all_special_tokens))
        raise ConfigError(
            f"models.{config.name}.separator is {separator!r}, which the tokenizer does not know as one token",
            fix=f"use one of its special tokens: {special}",
        )
    return separator


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a folder's tokenizer files into an export."""
    for path in source.iterdir():
        if path.name.startswith(("tokenizer", "special_tokens", "chat_template", "vocab", "merges", "added_tokens")):
            shutil.copyfile(path, target / path.name)


def _require_plain_logits(model: PreTrainedModel) -> None:
    """Refuse heads that scale, cap or shift logits: the loss and the scores here would silently leave that out."""
    found = {key: getattr(model.config, key, None) for key in ("final_logit_softcapping", "logits_scaling", "logit_scale")}
    found["output bias"] = getattr(model.get_output_embeddings(), "bias", None)
    for name, value in found.items():
        if value is not None and not (isinstance(value, (int, float)) and value == 1):
            raise ConfigError(
                f"{type(model).__name__} has {name} in its output head, which is not supported yet",
                fix="use a model whose logits are hidden states times the output embedding, such as Llama, Qwen or SmolLM",
            )


def _load_folder(config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    path = resolve_package(config.base)
    try:
        model = AutoModelForCausalLM.from_pretrained(path, revision=config.revision or "main", dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer or path, revision=config.revision or "main")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"models.{config.name}.base: cannot load {config.base!r}: {str(error).splitlines()[0]}",
            fix="give a folder with config.json and safetensors, a hub name that this machine can reach, or a .gguf file",
        ) from error
    return model, tokenizer


def _load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from gguf import GGUFReader

    if not path.is_file():
        raise ConfigError(f"{path}: no such GGUF file", fix="check models.*.base")
    fields = GGUFReader(str(path)).fields
    pre = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else "gpt-2"
    if pre not in _PRE_TOKENIZERS:
        raise ConfigError(
            f"{path}: its pre-tokenizer {pre!r} is not known here, and a wrong one changes token ids silently",
            fix="set models.*.tokenizer to a folder with the model's own tokenizer.json",
        )
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    if _PRE_TOKENIZERS[pre] is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = _PRE_TOKENIZERS[pre]
    return model, tokenizer
