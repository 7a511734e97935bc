"""The shape of a model: a loaded one, or one not imported yet, which is built on the meta device without its weights."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from cpt_ray.model.bases.tokens import control_tokens
from cpt_ray.model.layers.freezing import parameter_names
from cpt_ray.records import ImportedModel, ModelShape


def describe_base(path: str | Path, *, trust_remote_code: bool = False) -> ImportedModel:
    """Describe the model in a Hugging Face folder, on the hub or in a GGUF file, without its weights and tokenizer.

    Raises:
        OSError, ValueError: If it has no configuration that transformers can read.
    """
    if str(path).endswith(".gguf"):
        config = AutoConfig.from_pretrained(Path(path).parent, gguf_file=Path(path).name)
    else:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return describe_model(model, None)


def describe_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> ImportedModel:
    """Describe a model and its tokenizer; the parameters may be on the meta device."""
    config = model.config
    embeddings = {id(m.weight): m.weight.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    parameters = sum(p.numel() for p in model.parameters())
    names = parameter_names(model)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    linear: Counter[str] = Counter()
    for name, module in model.base_model.named_modules():
        if isinstance(module, nn.Linear):
            linear[name.rpartition(".")[2]] += module.in_features + module.out_features
    return ImportedModel(
        architecture=type(model).__name__,
        shape=ModelShape(
            parameters=parameters,
            body_parameters=parameters - sum(embeddings.values()),
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            vocabulary_size=config.vocab_size,
            tied=bool(config.tie_word_embeddings),
            num_key_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            feedforward_size=_feedforward_size(config),
        ),
        linear_sizes=dict(sorted(linear.items())),
        parameter_sizes=sizes,
        tied_names={name: first for name, first in names.items() if name != first},
        input_embedding=next(name for name, p in model.named_parameters() if p is model.get_input_embeddings().weight),
        end_of_text=tokenizer.eos_token if tokenizer is not None and isinstance(tokenizer.eos_token, str) else None,
        added_bos=None if tokenizer is None else _added_bos(tokenizer),
        special_tokens=() if tokenizer is None else tuple(sorted(tokenizer.all_special_tokens)),
        control_tokens=() if tokenizer is None else control_tokens(json.loads(tokenizer.backend_tokenizer.to_str())),
    )


def _feedforward_size(config: Any) -> int | None:
    """Width of the MLP, under the names that architectures have for it."""
    found = (getattr(config, name, None) for name in ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"))
    size = next((size for size in found if isinstance(size, int)), None)
    # GPT-2's kind leaves it out for four times the hidden size.
    return 4 * int(config.hidden_size) if size is None and hasattr(config, "n_inner") else size


def _added_bos(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The token that the tokenizer puts before a text, found by trying it: its config often disagrees."""
    plain, dressed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    return str(tokenizer.convert_ids_to_tokens(dressed[0])) if dressed[1 : 1 + len(plain)] == plain else None
