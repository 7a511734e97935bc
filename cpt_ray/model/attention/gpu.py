"""Per-document attention on a GPU: variable-length flash attention, or FlexAttention where flash does not apply.

Flash supports bf16 and fp16 and head sizes up to 256; torch's `varlen_attn` is preferred, with the flash-attn package if torch
was built without flash. FlexAttention handles the rest (fp32, larger heads), compiled, with a block mask built once per row.
Nothing here waits for the device: all lengths, including the longest, are known on the host.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

VARLEN, FLASH, FLEX = "varlen_attn", "flash-attn", "flex_attention"

_LARGEST_FLASH_HEAD = 256


def gpu_kernel(dtype: torch.dtype, head_size: int) -> str:
    """The fastest kernel that supports these tensors."""
    if dtype not in (torch.bfloat16, torch.float16) or head_size > _LARGEST_FLASH_HEAD or head_size % 8:
        return FLEX
    if torch.backends.cuda.is_flash_attention_available() and _torch_varlen() is not None:
        return VARLEN
    return FLASH if importlib.util.find_spec("flash_attn") else FLEX


def flash_attention(query: Tensor, key: Tensor, value: Tensor, boundaries: Tensor, longest: int, scale: float) -> Tensor:
    """Attend with the flash-attn package; shapes as in `varlen_attention`."""
    from flash_attn import flash_attn_varlen_func

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    output: Tensor = flash_attn_varlen_func(q, k, v, boundaries, boundaries, longest, longest, softmax_scale=scale, causal=True)
    return output[None]


def varlen_attention(query: Tensor, key: Tensor, value: Tensor, boundaries: Tensor, longest: int, scale: float) -> Tensor:
    """Attend with torch's variable-length kernel.

    Args:
        query: [1, heads, N, head_dim].
        key: [1, kv_heads, N, head_dim].
        value: [1, kv_heads, N, head_dim].
        boundaries: int32 [documents + 1] on the device, cumulative lengths from 0.
        longest: Length of the longest document.
        scale: Factor of the scores.

    Returns:
        [1, N, heads, head_dim].
    """
    varlen = _torch_varlen()
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    knows = _varlen_parameters()
    # The signature changed between releases: causality used to be a flag; a scale and fewer key heads came later.
    settings: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in knows else {"is_causal": True}
    if "scale" in knows:
        settings["scale"] = scale
    else:
        q = q * (scale * q.shape[-1] ** 0.5)
    if "enable_gqa" in knows:
        settings["enable_gqa"] = True
    else:
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    output: Tensor = varlen(q, k, v, boundaries, boundaries, longest, longest, **settings)
    return output[None]


def document_block_mask(boundaries: Tensor, tokens: int) -> BlockMask:
    """Which blocks of 128 x 128 scores contain a pair of the same document, for FlexAttention.

    Args:
        boundaries: int32 [documents + 1], cumulative lengths from 0.
        tokens: N.
    """
    device = boundaries.device
    document = torch.searchsorted(boundaries, torch.arange(tokens, device=device, dtype=boundaries.dtype), right=True)

    def visible(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return (row >= column) & (document[row] == document[column])

    return create_block_mask(visible, None, None, tokens, tokens, device=device)


def flex_document_attention(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scale: float) -> Tensor:
    """Attend with FlexAttention; shapes as in `varlen_attention`."""
    # Uncompiled, it holds all scores at once, which is acceptable in a CPU test but not on a GPU.
    attend = _compiled_flex() if query.is_cuda else flex_attention
    output: Tensor = attend(query, key, value, block_mask=mask, scale=scale, enable_gqa=True)
    return output.transpose(1, 2).contiguous()


@cache
def _compiled_flex() -> Any:
    return torch.compile(flex_attention, dynamic=False)


@cache
def _torch_varlen() -> Any:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


@cache
def _varlen_parameters() -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_torch_varlen()).parameters
