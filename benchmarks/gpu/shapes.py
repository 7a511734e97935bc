"""The models whose speed is measured, SmolLM2's shapes and a tiny one for rehearsals, and a token's time at the roof.

At the roof, with everything fused that can be, a matrix product takes the longer of its FLOPs at the measured peak and its
bytes at the measured bandwidth; attention its FLOPs at half the peak (FlashAttention-3 reaches 0.6 to 0.75, Shah et al. 2024,
section 4); elementwise work its bytes. Nothing overlaps.
"""

from __future__ import annotations

from typing import NamedTuple

from transformers import LlamaConfig

BYTES = 2
"""bf16."""
HIDDEN_PASSES = 18
"""Reads and writes of a hidden vector per layer and forward pass outside matrix products: two norms, rotary embedding,
activation and two residual sums, each fused with its neighbors. The backward pass takes 1.8 times as many."""
ATTENTION_SHARE = 0.5
_EFFICIENCY = 0.75
"""Of the peak, for matrix products with one side of about a thousand."""


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


def seconds_per_token(
    shape: Shape, *, mean_keys: float, tokens: int, flops_per_s: float, bytes_per_s: float, training: bool
) -> float:
    """Seconds that a token takes at the roof.

    Args:
        shape: The model.
        mean_keys: Mean keys that a token attends to.
        tokens: Tokens of a forward pass.
        flops_per_s: Measured peak of a bf16 matrix product.
        bytes_per_s: Measured bandwidth of a copy, read and written bytes together.
        training: Forward and backward, else forward alone.
    """
    head = shape.hidden // shape.heads
    products = [
        (shape.hidden + 2 * shape.key_heads * head, shape.hidden),
        (shape.hidden, shape.hidden),
        (2 * shape.intermediate, shape.hidden),
        (shape.hidden, shape.intermediate),
    ] * shape.layers + [(shape.vocabulary, shape.hidden)]

    def product(m: int, n: int, k: int) -> float:
        return max(2 * m * n * k / (flops_per_s * _EFFICIENCY), BYTES * (m * n + m * k + n * k) / bytes_per_s)

    matrices = 0.0
    for n, k in products:
        matrices += product(tokens, n, k)
        if training:  # gradients of the input and of the weight
            matrices += product(tokens, k, n) + product(n, k, tokens)
    passes = HIDDEN_PASSES * (2.8 if training else 1.0)
    elementwise = shape.layers * passes * shape.hidden * BYTES / bytes_per_s
    attention = (12 if training else 4) * shape.layers * shape.hidden * mean_keys / (flops_per_s * ATTENTION_SHARE)
    return matrices / tokens + elementwise + attention
