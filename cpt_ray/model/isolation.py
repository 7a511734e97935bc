"""Attention by document: packed neighbours do not see each other, and position ids restart at each.

A packed row is given as its segment lengths, not as a mask: every kernel here computes each segment's causal attention alone,
which is exact and on CPU faster than one causal call over the row. Padding is a segment of its own.
Guarantee: `model.self_test` proves it on the very model and kernel before a step is taken.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from cpt_ray.errors import TrainingError

ATTENTION = "document"


@dataclass(frozen=True)
class Segments:
    """The segments of one flat row.

    `lengths` adds up to the row's tokens. `boundaries` holds their cumulative sums from 0 on the row's device, int32, for
    kernels that want them; `longest` is the largest length.
    """

    lengths: tuple[int, ...]
    boundaries: Tensor | None
    longest: int


def use_document_attention(model: PreTrainedModel) -> None:
    """Make every attention layer of `model` honour the `segments` that `hidden_states` passes."""
    AttentionInterface.register(ATTENTION, _document_attention)
    AttentionMaskInterface.register(ATTENTION, _no_mask)
    model.set_attn_implementation(ATTENTION)


def kernel_name(device: torch.device, dtype: torch.dtype) -> str:
    """The kernel that tensors of this device and type get, as the reports call it."""
    flash = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16) and _varlen() is not None
    return "varlen_attn" if flash else "sdpa per document"


def hidden_states(model: PreTrainedModel, input_ids: Tensor, segment_lengths: Sequence[int], *, mask: bool = True) -> Tensor:
    """Run the model's body over one flat row of packed segments.

    Args:
        model: A causal LM on which `use_document_attention` was called.
        input_ids: Token ids, int64 [N].
        segment_lengths: Lengths that add up to N.
        mask: False leaks between segments (positions still restart): the self-test's control, and `isolation: none`.

    Returns:
        Final hidden states [N, H].
    """
    device = input_ids.device
    lengths = tuple(int(length) for length in segment_lengths)
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    seen = lengths if mask else (sum(lengths),)
    boundaries = None
    if kernel_name(device, model.dtype) == "varlen_attn":
        boundaries = torch.tensor([0, *seen], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
    segments = Segments(lengths=seen, boundaries=boundaries, longest=max(seen))
    # use_cache must be off and attention_mask absent: with either, transformers builds its own mask over the whole row.
    output = model.base_model(input_ids=input_ids[None], position_ids=positions[None], use_cache=False, segments=segments)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def _document_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 -- transformers' signature
    scaling: float | None = None,
    segments: Segments | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within segments: [1, heads, N, head_dim] in (key and value may have fewer heads), [1, N, heads, head_dim] out."""
    if segments is None:
        raise TrainingError(
            f"{type(module).__name__} was called without segments under document attention",
            fix="call model.isolation.hidden_states, or set another attention implementation for plain batches",
        )
    if segments.boundaries is not None:
        return _varlen_attention(query, key, value, segments, scaling), None
    parts = [
        functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        for q, k, v in zip(
            query.split(segments.lengths, 2),
            key.split(segments.lengths, 2),
            value.split(segments.lengths, 2),
            strict=True,
        )
    ]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
    return joined.transpose(1, 2).contiguous(), None


def _varlen_attention(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None) -> Tensor:
    varlen = _varlen()
    if varlen is None or segments.boundaries is None:
        raise TrainingError("varlen attention was asked for where torch has none", fix="report this; it is a defect")
    groups = query.shape[1] // key.shape[1]
    q, k, v = (
        tensor[0].transpose(0, 1).contiguous()
        for tensor in (query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))
    )
    parameters = inspect.signature(varlen).parameters
    # torch 2.11 says `is_causal`, later versions say a window that ends at the token itself.
    causal: dict[str, Any] = {"is_causal": True} if "is_causal" in parameters else {"window_size": (-1, 0)}
    if scaling is not None and "scale" in parameters:
        causal["scale"] = scaling
    bounds, longest = segments.boundaries, segments.longest
    output: Tensor = varlen(q, k, v, bounds, bounds, longest, longest, **causal)
    return output[None]


@cache
def _varlen() -> Any:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def _no_mask(*_: Any, **__: Any) -> None:
    """Segments replace the mask."""
