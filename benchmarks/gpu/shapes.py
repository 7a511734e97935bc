"""The models whose speed is measured: the shapes of SmolLM2, with random weights, and a tiny one for rehearsals."""

from __future__ import annotations

from typing import NamedTuple

from transformers import LlamaConfig


class Shape(NamedTuple):
    """A Llama's sizes."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int = 49152


SMOLLM2_135M = Shape(576, 1536, 30, 9, 3)
SMOLLM2_1700M = Shape(2048, 8192, 24, 32, 32)
TINY_SHAPE = Shape(64, 128, 2, 4, 2)


def config(shape: Shape) -> LlamaConfig:
    """The shape as a config of transformers."""
    return LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
    )
