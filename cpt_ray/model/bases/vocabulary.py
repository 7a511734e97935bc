"""New tokens for a base model: domain words that become one token each, before anything is tokenized or trained.

In: a model, its tokenizer, the words. Out: both changed in place. A new row of the input embedding, and of the output embedding
and its bias if they are not tied, is the mean of the rows of the pieces that the old tokenizer split the word into (Koto, Lau
and Baldwin 2021, "IndoBERTweet", section 3.2: better than random rows or the mean of all rows). Guarantee: rows of old tokens
keep their values, so text without new words has the same hidden states as before.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.errors import ConfigError


@torch.no_grad()
def add_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> None:
    """Add `config.new_tokens` to tokenizer and model; spare rows of the model are used first.

    Raises:
        ConfigError: If a word is empty, listed twice, or already a single token.
    """
    pieces = {word: _pieces(tokenizer, word, config) for word in config.new_tokens}
    if len(pieces) < len(config.new_tokens):
        raise ConfigError(f"models.{config.name}.new_tokens lists a word twice", fix="list every word once")
    # Matched verbatim, anywhere in the text; normalization would look for a different word.
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in pieces])
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(list(pieces))
    for tensor in _embedding_tensors(model):
        for index, old in zip(ids, pieces.values(), strict=True):
            tensor[index] = tensor[old].float().mean(0).to(tensor.dtype)


def _pieces(tokenizer: PreTrainedTokenizerBase, word: str, config: ModelConfig) -> list[int]:
    key = f"models.{config.name}.new_tokens"
    found: list[int] = tokenizer(word, add_special_tokens=False).input_ids if word.strip() else []
    if not found:
        raise ConfigError(f"{key} contains {word!r}, which is not text", fix="list words of the domain")
    if len(found) == 1 and tokenizer.convert_ids_to_tokens(found[0]) != tokenizer.unk_token:
        raise ConfigError(f"{key}: {word!r} is already one token (id {found[0]})", fix=f"delete it from {key}")
    return found


def _embedding_tensors(model: PreTrainedModel) -> list[Tensor]:
    """Tensors with a row per token: input embedding, output embedding if it is a different tensor, output bias."""
    head: Any = model.get_output_embeddings()
    source: Any = model.get_input_embeddings().weight
    tensors = [source, head.weight, getattr(head, "bias", None)]
    return list({id(tensor): tensor for tensor in tensors if tensor is not None}.values())
