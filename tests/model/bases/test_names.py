"""The names that a configuration tells are those of transformers' models."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cpt_ray.model.bases.names import expected_names

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
NEO = {
    "vocab_size": 64, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
FAMILIES = [
    "llama",
    "mistral",
    "granite",
    "smollm3",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "olmo2",
    "olmo3",
    "phi3",
]


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((name, SMALL) for name in FAMILIES),
        ("llama", {**SMALL, "attention_bias": True, "mlp_bias": True}),
        ("qwen3", {**SMALL, "attention_bias": True}),
        ("gpt2", GPT),
        ("gpt_neo", NEO),
    ],
    ids=str,
)
@pytest.mark.parametrize("tied", [False, True])
def test_expected_names_are_those_of_the_model(family, settings, tied):
    config = AutoConfig.for_model(family, **settings, tie_word_embeddings=tied)
    with torch.device("meta"):
        names = set(AutoModelForCausalLM.from_config(config).state_dict())
    expected = expected_names(config.to_dict())
    assert expected.needed | expected.allowed == names
    assert expected.needed == (names - {"lm_head.weight"} if tied else names)


def test_an_architecture_that_is_not_in_the_table_or_says_no_layers_is_unknown():
    assert expected_names({"model_type": "own", "num_hidden_layers": 2}) is None
    assert expected_names({"model_type": "llama"}) is None
