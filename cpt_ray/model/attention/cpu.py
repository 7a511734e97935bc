"""Per-document attention on CPU: torch's kernel forward, and in bf16 a custom backward made of matrix products.

torch's backward kernel was 23 % of a bf16 training step at 135M parameters and rows of 512 tokens, because it leaves the
processor's matrix units idle. Here it is five batched products per block of query rows, each block against the keys of its
document up to the block's end; so neither another document nor most of the upper triangle is computed.
Memory: the three inputs are kept; scores exist for one block at a time, `heads * 128 * document length` elements.
Guarantee: nothing of one document enters another's output or gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Backward of one document of 512 tokens, 9 heads of 64, bf16, one thread with AMX: 64 rows 58 ms, 128 rows 18, 256 rows 25,
# torch's kernel 24 to 76 (best of 60 on a busy machine); of four documents of 32 tokens 4.1 against 7.4. In fp32 torch's kernel
# takes two thirds of this one's time, and is used.
_BLOCK_ROWS = 128


def document_sdpa(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """Attend causally within each document with torch's kernel, one call per document.

    Args:
        query: [1, heads, N, head_dim].
        key: [1, kv_heads, N, head_dim]; heads is a multiple of kv_heads.
        value: [1, kv_heads, N, head_dim].
        lengths: Document lengths; they add up to N.
        scale: Factor of the scores.

    Returns:
        [1, N, heads, head_dim], contiguous.
    """
    parts = [
        functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    ]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
    return joined.transpose(1, 2).contiguous()


class BlockBackward(torch.autograd.Function):
    """`document_sdpa` with a backward in blocks of query rows. Once differentiable.

    Scores and probabilities are rounded to the inputs' type, the softmax and its derivative are computed in fp32: gradients in
    bf16 are 4e-3 (relative, in norm) from fp32, torch's 3e-3 to 6e-3.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
        """Attend like `document_sdpa`."""
        ctx.save_for_backward(query, key, value)
        ctx.lengths, ctx.scale = lengths, scale
        return document_sdpa(query, key, value, lengths, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Differentiate; probabilities are recomputed, which keeps a long document's memory linear."""
        query, key, value = ctx.saved_tensors
        _, heads, tokens, size = query.shape
        kv_heads = key.shape[1]
        group = heads // kv_heads

        def by_key_head(tensor: Tensor) -> Tensor:
            """[N, heads, d] to [kv_heads, N * group, d]: the query heads of a key head are adjacent, token by token."""
            return tensor.reshape(tokens, kv_heads, group, size).transpose(0, 1).reshape(kv_heads, tokens * group, size)

        q, grad = by_key_head(query[0].transpose(0, 1) * ctx.scale), by_key_head(grad_output[0])
        k, v = key[0].contiguous(), value[0].contiguous()
        grad_q = torch.empty_like(q)
        # A key accumulates from every block after it: summed in fp32.
        grad_k = torch.zeros(k.shape, dtype=torch.float32)
        grad_v = torch.zeros(v.shape, dtype=torch.float32)
        for first, start, stop in _blocks(ctx.lengths):
            rows, keys = slice(start * group, stop * group), slice(first, stop)
            p = torch.bmm(q[:, rows], k[:, keys].transpose(1, 2))
            p.view(kv_heads, stop - start, group, stop - first)[..., start - first :] += _after_diagonal(stop - start, p.dtype)
            p = torch.softmax(p, -1)
            grad_v[:, keys] += torch.bmm(p.transpose(1, 2), grad[:, rows])
            grad_p = torch.bmm(grad[:, rows], v[:, keys].transpose(1, 2))
            grad_scores = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
            grad_q[:, rows] = torch.bmm(grad_scores, k[:, keys])
            grad_k[:, keys] += torch.bmm(grad_scores.transpose(1, 2), q[:, rows])
        grad_q = (grad_q * ctx.scale).view(kv_heads, tokens, group, size).permute(0, 2, 1, 3).reshape(1, heads, tokens, size)
        return grad_q, grad_k.to(k.dtype)[None], grad_v.to(v.dtype)[None], None, None


def _blocks(lengths: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(first token of the document, first row, end of rows) of each block; a document is split into nearly equal parts."""
    first = 0
    for length in lengths:
        count = -(-length // _BLOCK_ROWS)
        for index in range(count):
            yield first, first + length * index // count, first + length * (index + 1) // count
        first += length


def _after_diagonal(rows: int, dtype: torch.dtype) -> Tensor:
    """[rows, 1, rows]: minus infinity where the key comes after the query, else 0."""
    return torch.full((rows, rows), float("-inf"), dtype=dtype).triu_(1)[:, None]
