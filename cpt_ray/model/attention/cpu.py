"""Per-document attention on a CPU with torch's kernels, one call per document.

Forward in every type; backward in fp32 and fp16. In bf16 `blocks.block_backward` is faster. Memory: the inputs are kept, and
where torch's backward kernel is used the output and the log-sum-exps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cpt_ray.model.attention.documents import Documents

SDPA = "sdpa per document"
SDPA_BLOCKS = "sdpa per document, backward in blocks"


def sdpa(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> tuple[Tensor, Tensor]:
    """Attend causally within each document with torch's kernel, one call per document.

    Args:
        query: [1, heads, N, head_dim].
        key: [1, kv_heads, N, head_dim]; heads is a multiple of kv_heads.
        value: [1, kv_heads, N, head_dim].
        documents: They cover the N tokens.
        scale: Factor of the scores.

    Returns:
        [1, N, heads, head_dim], contiguous, and the log-sum-exps of the scores [heads, N], fp32.
    """
    _, heads, tokens, size = query.shape
    output, sums = query.new_empty(1, tokens, heads, size), query.new_empty(heads, tokens, dtype=torch.float32)
    at = 0
    for length, *parts in zip(documents.lengths, *(x.split(documents.lengths, 2) for x in (query, key, value)), strict=True):
        rows = slice(at, at + length)
        # What scaled_dot_product_attention calls; the public function does not return the log-sum-exp.
        part, sums_part = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*parts, 0.0, True, scale=scale)
        output[:, rows], sums[:, rows] = part.transpose(1, 2), sums_part[0]
        at += length
    return output, sums


def sdpa_without_sums(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> tuple[Tensor, Tensor]:
    """`sdpa` for `blocks.block_backward`, which computes the softmax again."""
    return sdpa(query, key, value, documents, scale)[0], query.new_empty(0, dtype=torch.float32)


def sdpa_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, sums: Tensor, documents: Documents, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate `sdpa` with torch's kernel, one call per document."""
    gradients = [torch.empty_like(x.transpose(1, 2), memory_format=torch.contiguous_format) for x in (query, key, value)]
    at = 0
    for length in documents.lengths:
        rows = slice(at, at + length)
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad[:, rows].transpose(1, 2),
            *(tensor[:, :, rows] for tensor in (query, key, value)),
            output[:, rows].transpose(1, 2),
            sums[None, :, rows],
            0.0,
            True,
            scale=scale,
        )
        for whole, part in zip(gradients, found, strict=True):
            whole[:, rows] = part.transpose(1, 2)
        at += length
    return gradients[0].transpose(1, 2), gradients[1].transpose(1, 2), gradients[2].transpose(1, 2)
