"""How many bytes a forward pass keeps for its backward pass, and the loss between them. Imports no torch.

Korthikanti et al. 2022 (arXiv 2205.05198), section 4.1, count what a layer of GPT-3's kind keeps: 34 bytes per token and hidden
unit in 16 bits, of which 11 are the attention block's, 19 the MLP's and 4 the norms'; their 5as/h for attention scores falls
away, because no kernel here keeps scores. The count below is theirs for the layers that are trained today: grouped keys, gated
MLPs, no dropout masks, and norms that compute in fp32, as transformers writes them.
"""

from __future__ import annotations

import math

from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.model.layers.chunks import chunk_rows
from cpt_ray.records import ModelShape

_FP32 = 4


def compute_bytes(train: TrainConfig) -> int:
    """Bytes of a number in the compute type."""
    return _FP32 if train.precision == "fp32" else 2


def activation_bytes(shape: ModelShape, train: TrainConfig, *, tokens: int, compiled: bool = False) -> int:
    """What a forward pass of `tokens` keeps, without the head.

    Recomputation (`train.gradient_checkpointing`) keeps each layer's input, and all of one layer at a time.

    Args:
        shape: The model's shape.
        train: The study's train section.
        tokens: Of the pass.
        compiled: Whether decoder layers run compiled.
    """
    size = compute_bytes(train)
    layer = layer_bytes(shape, size, compiled=compiled)
    ends = shape.hidden_size * (_FP32 + 2 * size)  # the final norm: its input in fp32, normalized, and scaled
    kept = shape.num_layers * layer
    if train.gradient_checkpointing:
        kept = shape.num_layers * size * shape.hidden_size + layer
    return tokens * (kept + ends)


def layer_bytes(shape: ModelShape, size: int, *, compiled: bool = False) -> int:
    """What one layer keeps per token.

    Args:
        shape: The model's shape.
        size: Bytes of a number in the compute type.
        compiled: Compiled layers keep their input and what matrix products need, and compute the rest again.
    """
    hidden, width = shape.hidden_size, feedforward_size(shape)
    keys = shape.num_key_heads or shape.num_heads
    # Queries and output, keys and values; log-sum-exps of the scores in fp32.
    attention = size * shape.head_dim * 2 * (shape.num_heads + keys) + _FP32 * shape.num_heads
    gated = is_gated(shape)
    if compiled:
        return 4 * size * hidden + attention + size * (3 if gated else 2) * width
    # RMSNorm of a gated model: input in fp32, normalized, scaled. LayerNorm is one kernel: input, output.
    norm = hidden * (_FP32 + 2 * size if gated else 2 * size)
    # Gated: gate, its activation, the other factor, their product. Else: before and after the activation.
    return 2 * norm + attention + size * (4 if gated else 2) * width


def feedforward_size(shape: ModelShape) -> int:
    """Width of the MLP; where it is not known, of three matrices with what attention leaves of a layer's parameters."""
    if shape.feedforward_size is not None:
        return shape.feedforward_size
    return max(0, _mlp_parameters(shape)) // (3 * shape.hidden_size)


def is_gated(shape: ModelShape) -> bool:
    """Whether the MLP has three matrices, as in Llama, and not two, as in GPT-2."""
    return _mlp_parameters(shape) > 2.5 * shape.hidden_size * feedforward_size(shape)


def _mlp_parameters(shape: ModelShape) -> int:
    keys = shape.num_key_heads or shape.num_heads
    attention = 2 * shape.hidden_size * shape.head_dim * (shape.num_heads + keys)
    return shape.body_parameters // max(1, shape.num_layers) - attention


def loss_bytes(shape: ModelShape, train: TrainConfig, *, tokens: int, on_gpu: bool) -> int:
    """What the loss holds at most, beside the activations: see `model.loss`.

    In the forward pass a chunk of logits and the output embedding's gradient, in fp32 if several chunks are summed; in the
    backward pass this gradient and its scaled copy. The gradient of the hidden states, too, is there twice.

    Args:
        shape: The model's shape.
        train: The study's train section.
        tokens: Of the pass.
        on_gpu: Whether logits are computed on a GPU, in larger chunks.
    """
    size = compute_bytes(train)
    rows = chunk_rows(shape.vocabulary_size, size, compiled_on_gpu=on_gpu)
    matrix = shape.vocabulary_size * shape.hidden_size
    trains_head = shape.adapter_parameters is None
    forward = min(rows, tokens) * shape.vocabulary_size * size
    backward = 0
    if trains_head:
        forward += matrix * (_FP32 + size if math.ceil(tokens / rows) > 1 else size)
        backward = 2 * matrix * size
    return max(forward, backward) + 2 * tokens * shape.hidden_size * size
