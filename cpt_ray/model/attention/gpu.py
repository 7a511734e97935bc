"""Per-document attention on a GPU: variable-length flash attention, or torch's own attention per document where it cannot be.

Flash computes bf16 and fp16 with heads of up to 256, from compute capability 8.0 on, and reads each key head once for its group
of query heads. torch brings FlashAttention-2; on Hopper FlashAttention-3 takes its place if that package is installed. The rest
(fp32, larger heads, older cards) takes a call per document, and `blocks.block_backward`. Nothing here waits for the device: the
lengths are known on the host.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor
from torch.nn import attention, functional

from cpt_ray.model.attention.documents import Documents

VARLEN, VARLEN_3 = "varlen flash", "varlen flash 3"
SDPA = "sdpa per document on the GPU, backward in blocks"

_LARGEST_FLASH_HEAD = 256
_FLASH_TYPES = (torch.bfloat16, torch.float16)
_FIRST_WITH_FLASH = (8, 0)
# Consumer cards lack the shared memory for the backward pass of larger heads; torch refuses it there.
_SMALL = {(8, 6), (8, 9), (12, 0), (12, 1)}
_LARGEST_HEAD_OF_SMALL = 192


def gpu_kernel(dtype: torch.dtype, head_size: int, capability: tuple[int, int]) -> str:
    """The fastest kernel that supports these tensors on a card of this compute capability."""
    largest = _LARGEST_HEAD_OF_SMALL if capability in _SMALL else _LARGEST_FLASH_HEAD
    if dtype not in _FLASH_TYPES or head_size % 8 or head_size > largest or capability < _FIRST_WITH_FLASH:
        return SDPA
    if not torch.backends.cuda.is_flash_attention_available():
        return SDPA
    return VARLEN_3 if use_flash_attention_3(capability) else VARLEN


@cache
def use_flash_attention_3(capability: tuple[int, int]) -> bool:
    """Let FlashAttention-3 take the place of torch's kernels if this is Hopper, it is installed, and torch can (2.11)."""
    activate = getattr(attention, "activate_flash_attention_impl", None)
    if capability[0] != 9 or activate is None or importlib.util.find_spec("flash_attn_interface") is None:
        return False
    activate("FA3")
    return True


def varlen(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> tuple[Tensor, Tensor]:
    """Attend with torch's flash kernel; shapes as in `operator.document_attention`."""
    cuts, longest = documents.boundaries, documents.longest
    # Not varlen_attn: how it takes causality, a scale and grouped heads changed with every release, this operator has not.
    output, sums, *_ = torch.ops.aten._flash_attention_forward(
        *_flat(query, key, value), cuts, cuts, longest, longest, 0.0, True, False, scale=scale
    )
    return output[None], sums


def varlen_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, sums: Tensor, documents: Documents, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate `varlen`."""
    cuts, longest = documents.boundaries, documents.longest
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=query.device), torch.empty(0, device=query.device)
    found = torch.ops.aten._flash_attention_backward(
        grad[0], *_flat(query, key, value), output[0], sums, cuts, cuts, longest, longest, 0.0, True, *no_dropout, scale=scale
    )
    return _by_head(*found)


def sdpa(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> tuple[Tensor, Tensor]:
    """Attend with torch's public function, one call per document."""
    groups = query.shape[1] // key.shape[1]
    # Repeated: torch's memory-efficient kernel takes no fewer key heads, and its plain one would hold all scores.
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts = [
        functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        for q, k, v in zip(*(tensor.split(documents.lengths, 2) for tensor in (query, key, value)), strict=True)
    ]
    joined = torch.cat(parts, 2)
    return joined.transpose(1, 2), query.new_empty(0, dtype=torch.float32)


def _flat(*tensors: Tensor) -> tuple[Tensor, ...]:
    """[1, heads, N, d] to [N, heads, d]."""
    return tuple(tensor[0].transpose(0, 1) for tensor in tensors)


def _by_head(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[N, heads, d] to [1, heads, N, d]."""
    return query.transpose(0, 1)[None], key.transpose(0, 1)[None], value.transpose(0, 1)[None]
