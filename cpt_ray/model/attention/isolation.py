"""Per-document attention: packed documents do not see each other, and position ids restart at each one.

A packed row is given as its segment lengths, not as a mask: every kernel here computes each segment's causal attention
separately, which is exact and faster than one causal call over the row. Padding is a separate segment.
Guarantee: `model.attention.self_test` proves this on the actual model and kernel, forward and backward, before a step is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention import gpu
from cpt_ray.model.attention.cpu import BlockBackward, document_sdpa

ATTENTION = "document"

SDPA = "sdpa per document"
SDPA_BLOCKS = "sdpa per document, backward in blocks"


@dataclass(frozen=True)
class Segments:
    """The segments of one flat row, prepared once for all layers.

    `lengths` adds up to the row's tokens; `kernel` names the kernel. On a GPU `boundaries` holds the cumulative lengths from 0,
    int32 on the device, and `mask` the block mask for FlexAttention.
    """

    lengths: tuple[int, ...]
    kernel: str
    boundaries: Tensor | None = None
    mask: BlockMask | None = None


def use_document_attention(model: PreTrainedModel) -> None:
    """Make every attention layer of `model` honor the `segments` that `hidden_states` passes."""
    AttentionInterface.register(ATTENTION, _document_attention)
    AttentionMaskInterface.register(ATTENTION, _no_mask)
    model.set_attn_implementation(ATTENTION)


def kernel_name(device: torch.device, dtype: torch.dtype, head_size: int) -> str:
    """The kernel for tensors of this device, type and head size, as named in the reports."""
    if device.type == "cuda":
        return gpu.gpu_kernel(dtype, head_size)
    return SDPA_BLOCKS if dtype == torch.bfloat16 else SDPA


def head_shape(config: PretrainedConfig) -> tuple[int, int, int]:
    """(query heads, key heads, head size) of a model."""
    heads = int(config.num_attention_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads, int(getattr(config, "num_key_value_heads", None) or heads), int(size)


def make_segments(lengths: Sequence[int], *, device: torch.device, kernel: str) -> Segments:
    """Prepare the segments for a kernel, once per row."""
    whole = tuple(int(length) for length in lengths)
    if kernel in (SDPA, SDPA_BLOCKS):
        return Segments(whole, kernel)
    boundaries = torch.tensor([0, *whole]).cumsum(0).to(device, torch.int32, non_blocking=True)
    mask = gpu.document_block_mask(boundaries, sum(whole)) if kernel == gpu.FLEX else None
    return Segments(whole, kernel, boundaries, mask)


def hidden_states(model: PreTrainedModel, input_ids: Tensor, segment_lengths: Sequence[int], *, mask: bool = True) -> Tensor:
    """Run the model's body over one flat row of packed segments.

    Args:
        model: A causal LM on which `use_document_attention` was called.
        input_ids: Token ids, int64 [N].
        segment_lengths: Lengths that add up to N.
        mask: False lets segments see each other (positions still restart): the self-test's control, and `isolation: none`.

    Returns:
        Final hidden states [N, H].
    """
    device = input_ids.device
    kernel = kernel_name(device, model.dtype, head_shape(model.config)[2])
    segments = make_segments(segment_lengths if mask else [sum(segment_lengths)], device=device, kernel=kernel)
    # use_cache must be off and attention_mask absent: with either, transformers builds its own mask over the whole row.
    output = model.base_model(
        input_ids=input_ids[None], position_ids=_positions(segment_lengths, device)[None], use_cache=False, segments=segments
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def attend(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scale: float) -> Tensor:
    """Attend causally within segments.

    Args:
        query: [1, heads, N, head_dim].
        key: [1, kv_heads, N, head_dim]; heads is a multiple of kv_heads.
        value: [1, kv_heads, N, head_dim].
        segments: From `make_segments`, for these tensors' device and type.
        scale: Factor of the scores.

    Returns:
        [1, N, heads, head_dim].
    """
    if segments.kernel == SDPA_BLOCKS:
        output: Tensor = BlockBackward.apply(query, key, value, segments.lengths, scale)  # type: ignore[no-untyped-call]
        return output
    if segments.boundaries is None:
        return document_sdpa(query, key, value, segments.lengths, scale)
    if segments.mask is not None:
        return gpu.flex_document_attention(query, key, value, segments.mask, scale)
    flash = gpu.varlen_attention if segments.kernel == gpu.VARLEN else gpu.flash_attention
    return flash(query, key, value, segments.boundaries, max(segments.lengths), scale)


def _positions(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Position ids int64 [N] that restart at each segment; computed on the host, so nothing waits for the device."""
    counts = torch.tensor(lengths)
    starts = counts.cumsum(0) - counts
    return (torch.arange(int(counts.sum())) - starts.repeat_interleave(counts)).to(device, non_blocking=True)


def _document_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 -- transformers' signature
    scaling: float | None = None,
    segments: Segments | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Called by transformers in every layer; attention dropout is ignored because continued pretraining uses none."""
    if segments is None:
        raise TrainingError(
            f"{type(module).__name__} was called without segments under document attention",
            fix="call model.attention.isolation.hidden_states, or set another attention implementation for plain batches",
        )
    window = settings.get("sliding_window")
    unknown = [name for name in ("softcap", "s_aux") if settings.get(name) is not None]
    if unknown or (window is not None and window < max(segments.lengths)):
        raise TrainingError(
            f"{type(module).__name__} uses {', '.join(unknown) or f'a sliding window of {window} tokens'}, "
            f"which document attention does not support (longest document: {max(segments.lengths)} tokens)",
            fix="use a model with full causal attention, or a sequence_length within the window",
        )
    return attend(query, key, value, segments, query.shape[-1] ** -0.5 if scaling is None else scaling), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Segments replace the mask."""
