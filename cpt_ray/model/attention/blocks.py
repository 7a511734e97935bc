"""The backward pass of attention within documents, made of matrix products over blocks of query rows.

On a CPU in bf16, torch's backward kernel was 23 % of a training step at 135M parameters and rows of 512 tokens, because it
leaves the processor's matrix units idle. Here it is five batched products per block of query rows, each block against the keys
of its document up to the block's end; so neither another document nor most of the upper triangle is computed. On a GPU it
serves where flash attention does not. Memory: scores exist for one block at a time, `heads * block * document length` elements.
Guarantee: nothing of one document enters another's gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cpt_ray.model.attention.documents import Documents

# Backward of one document of 512 tokens, 9 heads of 64, bf16, one thread with AMX: 64 rows 58 ms, 128 rows 18, 256 rows 25,
# torch's kernel 24 to 76 (best of 60 on a busy machine); of four documents of 32 tokens 4.1 against 7.4. In fp32 torch's kernel
# takes two thirds of this one's time, and is used.
_BLOCK_ROWS_CPU = 128
_BLOCK_ROWS_GPU = 512
"""Fewer kernels to start; not measured."""


def block_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, _out: Tensor, _sums: Tensor, documents: Documents, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate attention; probabilities are recomputed block by block, which keeps a long document's memory linear.

    Scores and probabilities are rounded to the inputs' type, the softmax and its derivative are computed in fp32: gradients in
    bf16 are 4e-3 (relative, in norm) from fp32, torch's 3e-3 to 6e-3.
    """
    _, heads, tokens, size = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads

    def by_key_head(tensor: Tensor) -> Tensor:
        """[N, heads, d] to [kv_heads, N * group, d]: the query heads of a key head are adjacent, token by token."""
        return tensor.reshape(tokens, kv_heads, group, size).transpose(0, 1).reshape(kv_heads, tokens * group, size)

    q, grad_rows = by_key_head(query[0].transpose(0, 1) * scale), by_key_head(grad[0])
    k, v = key[0].contiguous(), value[0].contiguous()
    grad_q = torch.empty_like(q)
    # A key accumulates from every block after it: summed in fp32.
    grad_k, grad_v = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
    for first, start, stop in _blocks(documents.lengths, _BLOCK_ROWS_GPU if q.is_cuda else _BLOCK_ROWS_CPU):
        rows, keys = slice(start * group, stop * group), slice(first, stop)
        p = torch.bmm(q[:, rows], k[:, keys].transpose(1, 2))
        p.view(kv_heads, stop - start, group, stop - first)[..., start - first :] += _after_diagonal(stop - start, p)
        p = torch.softmax(p, -1)
        grad_v[:, keys] += torch.bmm(p.transpose(1, 2), grad_rows[:, rows])
        grad_p = torch.bmm(grad_rows[:, rows], v[:, keys].transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
        grad_q[:, rows] = torch.bmm(grad_scores, k[:, keys])
        grad_k[:, keys] += torch.bmm(grad_scores.transpose(1, 2), q[:, rows])
    by_token = (grad_q * scale).view(kv_heads, tokens, group, size).transpose(0, 1).reshape(1, tokens, heads, size)
    return by_token.transpose(1, 2), grad_k.to(k.dtype)[None], grad_v.to(v.dtype)[None]


def _blocks(lengths: tuple[int, ...], block_rows: int) -> Iterator[tuple[int, int, int]]:
    """(first token of the document, first row, end of rows) of each block; a document is split into nearly equal parts."""
    first = 0
    for length in lengths:
        count = -(-length // block_rows)
        for index in range(count):
            yield first, first + length * index // count, first + length * (index + 1) // count
        first += length


def _after_diagonal(rows: int, like: Tensor) -> Tensor:
    """[rows, 1, rows]: minus infinity where the key comes after the query, else 0."""
    return like.new_full((rows, rows), float("-inf")).triu_(1)[:, None]
