"""Attention by its definition, and inputs for comparing a kernel with it."""

from __future__ import annotations

import torch


def attention_inputs(tokens: int, heads: int, key_heads: int, size: int, dtype: torch.dtype, device: str = "cpu"):
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, count, tokens, size) for count in (heads, key_heads, key_heads)] + [(1, tokens, heads, size)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def differentiate(attention, query, key, value, weight):
    inputs = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
    output = attention(*inputs)
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)]


def dense(query, key, value, lengths, scale):
    """The definition: all scores, a mask, a softmax."""
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    seen = (document[:, None] == document) & torch.ones(len(document), len(document), dtype=torch.bool).tril()
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query @ key.transpose(2, 3) * scale).masked_fill(~seen.to(query.device), float("-inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2)
