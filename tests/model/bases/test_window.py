"""Rows fit the positions that a base has learned; beyond what a rotary base was made for there is a warning."""

from __future__ import annotations

import json
import shutil

import pytest
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    OPTForCausalLM,
)

from cpt_ray.errors import ConfigError, TrainingError
from cpt_ray.model.bases.files import BaseFiles
from cpt_ray.model.bases.window import (
    LEAST_POSITIONS,
    check_window,
    learned_positions,
    require_within_window,
    sliding_window,
)

pytestmark = pytest.mark.accept(inputs=1)

KEY = "prepare.pack.sequence_length"


def save(folder, kind, positions):
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=positions, vocab_size=64))
    elif kind == "gpt_neo":
        types = {"num_layers": 2, "attention_types": [[["global", "local"], 1]]}
        model = GPTNeoForCausalLM(
            GPTNeoConfig(hidden_size=32, num_heads=2, max_position_embeddings=positions, vocab_size=64, **types)
        )
    else:
        sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = OPTForCausalLM(OPTConfig(max_position_embeddings=positions, vocab_size=64, **sizes))
    model.save_pretrained(folder)
    return BaseFiles(folder, "models.m.base")


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neo", "opt"])
def test_learned_positions_are_a_limit(tmp_path, kind):
    files = save(tmp_path, kind, 96)
    assert learned_positions(files) == 96
    assert check_window(files, {KEY: 96}) == []
    with pytest.raises(ConfigError, match=f"{KEY} is 97 tokens, but the base has learned 96 positions") as error:
        check_window(files, {"evaluate.context": 96, KEY: 97})
    assert error.value.fix == f"set {KEY} to at most 96"


def test_a_window_that_the_self_test_does_not_fit_into_is_refused(tmp_path):
    assert check_window(save(tmp_path / "enough", "gpt2", LEAST_POSITIONS), {KEY: 16}) == []
    with pytest.raises(ConfigError, match=f"learned {LEAST_POSITIONS - 1} positions; the self-test"):
        check_window(save(tmp_path / "less", "gpt2", LEAST_POSITIONS - 1), {KEY: 16})


MISTRAL = {"sliding_window": 96, "num_hidden_layers": 2}
GEMMA = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 96}
NONE = (
    {"sliding_window": None},
    {"sliding_window": 96, "use_sliding_window": False},
    {"sliding_window": 96, "layer_types": ["full_attention"]},
    {"sliding_window": 96, "use_sliding_window": True, "max_window_layers": 2, "num_hidden_layers": 2},
)


def test_a_sliding_window_is_that_of_the_layers_that_use_it():
    assert [sliding_window(config) for config in (MISTRAL, GEMMA)] == [96, 96]
    assert [sliding_window(config) for config in NONE] == [None] * len(NONE)


def test_rows_longer_than_a_sliding_window_are_refused_before_anything_is_trained(whole_base, tmp_path):
    shutil.copytree(whole_base, tmp_path / "base")
    place = tmp_path / "base" / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "sliding_window": 96}))
    files = BaseFiles(tmp_path / "base", "models.m.base")
    assert check_window(files, {KEY: 96}) == []
    with pytest.raises(ConfigError, match=f"{KEY} is 97 tokens, but the base uses a sliding window of 96") as error:
        check_window(files, {KEY: 97})
    assert error.value.fix == f"set {KEY} to at most 96, or use a base with full causal attention"
    loaded = MistralConfig(sliding_window=96)
    require_within_window(loaded, 96)
    require_within_window(LlamaConfig(), 10**6)
    with pytest.raises(TrainingError, match="rows have 97 tokens, but the model uses a sliding window of 96") as error:
        require_within_window(loaded, 97)
    assert error.value.fix.startswith(f"set {KEY} to at most 96")


def test_rotary_positions_beyond_the_training_window_are_warned_about(whole_base):
    files = BaseFiles(whole_base, "models.m.base")
    assert check_window(files, {KEY: 256}) == []
    (warning,) = check_window(files, {KEY: 257})
    assert f"{KEY} is 257 tokens, but the base was made for 256" in warning
