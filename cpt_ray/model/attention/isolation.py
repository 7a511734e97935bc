"""Per-document attention: packed documents do not see each other, and position ids restart at each one.

A packed row is given as its segment lengths, not as a mask: every kernel computes each segment's causal attention
separately, which is exact and faster than one causal call over the row. Padding is a separate segment.
Guarantee: `model.attention.self_test` proves this on the actual model and kernel, forward and backward, before a step is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention import cpu, gpu
from cpt_ray.model.attention.operator import document_attention, lay_out

ATTENTION = "document"


class Segments(NamedTuple):
    """The segments of one flat row, prepared once for all layers.

    `kernel` names the kernel. `boundaries` and `on_host` hold where segments begin, as `operator.document_attention` takes
    them. Compiled layers see only this: it has the same shape for every row of N tokens.
    """

    kernel: str
    boundaries: Tensor
    on_host: Tensor


def use_document_attention(model: PreTrainedModel) -> None:
    """Make every attention layer of `model` honor the `segments` that `hidden_states` passes."""
    AttentionInterface.register(ATTENTION, _document_attention)
    AttentionMaskInterface.register(ATTENTION, _no_mask)
    model.set_attn_implementation(ATTENTION)


def kernel_name(device: torch.device, dtype: torch.dtype, head_size: int) -> str:
    """The kernel for tensors of this device, type and head size, as named in the reports."""
    if device.type == "cuda":
        return gpu.gpu_kernel(dtype, head_size, torch.cuda.get_device_capability(device))
    return cpu.SDPA_BLOCKS if dtype == torch.bfloat16 else cpu.SDPA


def head_shape(config: PretrainedConfig) -> tuple[int, int, int]:
    """(query heads, key heads, head size) of a model."""
    heads = int(config.num_attention_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads, int(getattr(config, "num_key_value_heads", None) or heads), int(size)


def make_segments(lengths: Sequence[int], *, device: torch.device, kernel: str) -> Segments:
    """Prepare the segments for a kernel, once per row."""
    return Segments(kernel, *lay_out(lengths, device))


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


def attend(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scale: float, *, window: int | None = None) -> Tensor:
    """Attend causally within segments.

    Args:
        query: [1, heads, N, head_dim].
        key: [1, kv_heads, N, head_dim]; heads is a multiple of kv_heads.
        value: [1, kv_heads, N, head_dim].
        segments: From `make_segments`, for these tensors' device and type.
        scale: Factor of the scores.
        window: The layer's sliding window in tokens, which no segment may exceed.

    Returns:
        [1, N, heads, head_dim].

    Raises:
        TrainingError: If a segment is longer than the window.
    """
    kernel, boundaries, on_host = segments
    output, _ = document_attention(query, key, value, boundaries, on_host, scale, kernel, window or 0)
    result: Tensor = output
    return result


def _positions(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Position ids int64 [N] that restart at each segment; computed on the host, so nothing waits for the device."""
    counts = torch.tensor(lengths)
    starts = counts.cumsum(0) - counts
    positions = torch.arange(int(counts.sum())) - starts.repeat_interleave(counts)
    # From memory that is not pinned, a copy may wait for all that the device still has to compute.
    return (positions.pin_memory() if device.type == "cuda" else positions).to(device, non_blocking=True)


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
    unknown = [name for name in ("softcap", "s_aux") if settings.get(name) is not None]
    if unknown:
        raise TrainingError(
            f"{type(module).__name__} uses {', '.join(unknown)}, which document attention does not support",
            fix="use a model with full causal attention",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, segments, scale, window=settings.get("sliding_window")), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Segments replace the mask."""
