"""Cross-entropy from hidden states, without a full [tokens, vocabulary] matrix in fp32.

At 135M parameters and a vocabulary of 49k, the logits dominate memory. The matrix product runs over large chunks, and the
gradient is computed in the forward pass, so logits are never kept. The softmax is bound by memory traffic: on a CPU it runs
over blocks of rows that stay in cache; on a GPU it is compiled, to read the product twice and write the gradient once.
Guarantee: nothing here waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cpt_ray.model.layers.chunks import chunk_rows

IGNORED = -100
"""The label of a token that has none: padding, and the last token of a segment."""

# On CPU a block of 16 rows of fp32 logits (3 MB at 49k) stays in cache: half the time of one block.
_BLOCK_ROWS_CPU = 16


@dataclass(frozen=True)
class LogitRule:
    """What a model does to the product of hidden states and output embedding: `cap(scale * (h @ W.T + b))`.

    `cap(z)` is `softcap * tanh(z / softcap)`, or nothing without a softcap (Gemma 2, Gemma Team 2024, section 2).
    """

    scale: float = 1.0
    softcap: float | None = None

    @property
    def plain(self) -> bool:
        """Whether logits are the product itself."""
        return self.scale == 1.0 and self.softcap is None

    def apply(self, product: Tensor) -> Tensor:
        """Logits in the product's dtype [N, V]."""
        logits = product if self.scale == 1.0 else product * self.scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


PLAIN = LogitRule()


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(label) over the labeled rows, in fp32; gradients in the inputs' dtype. Once differentiable."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        bias: Tensor | None = None,
        rule: LogitRule = PLAIN,
        compiled: bool = False,
    ) -> Tensor:
        """Compute the sum and the gradients.

        Args:
            ctx: Autograd's context.
            hidden: [N, H].
            weight: Output embedding [V, H].
            labels: int64 [N]; `IGNORED` rows add nothing.
            bias: Bias of the output embedding [V], or None.
            rule: Turns the product into logits.
            compiled: Whether the softmax is compiled.

        Returns:
            Scalar fp32 sum in nats.
        """
        grad_hidden = torch.empty_like(hidden)
        size = _chunk_rows(weight, compiled=compiled)
        chunks = range(0, hidden.shape[0], size)
        # LoRA freezes the output embedding, and its gradient is a third of the work.
        wanted = ctx.needs_input_grad[1]
        # One chunk needs no wider accumulator; several would lose bits in bf16.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32 if len(chunks) > 1 else weight.dtype) if wanted else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in chunks:
            rows = slice(start, start + size)
            logits = _product(hidden[rows], weight, bias)
            total += _softmax_in_place(logits, labels[rows], rule, gradient=True, compiled=compiled).sum()
            grad_hidden[rows] = logits @ weight
            if grad_bias is not None:
                grad_bias += logits.sum(0, dtype=torch.float32)
            if grad_weight is not None and len(chunks) == 1:
                grad_weight = logits.T @ hidden[rows]
            elif grad_weight is not None:
                grad_weight += logits.T @ hidden[rows]
        ctx.save_for_backward(
            grad_hidden,
            grad_weight.to(weight.dtype) if grad_weight is not None else None,
            grad_bias.to(weight.dtype) if grad_bias is not None else None,
        )
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that the forward pass computed."""
        hidden, weight, bias = (saved if saved is None else saved * grad_output for saved in ctx.saved_tensors)
        return hidden, weight, None, bias, None, None


def _chunk_rows(weight: Tensor, *, compiled: bool) -> int:
    return chunk_rows(weight.shape[0], weight.element_size(), compiled_on_gpu=compiled and weight.is_cuda)


def _product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return hidden @ weight.T if bias is None else torch.addmm(bias, hidden, weight.T)


def _softmax_in_place(product: Tensor, labels: Tensor, rule: LogitRule, *, gradient: bool, compiled: bool) -> Tensor:
    """Return -log p per row [N] in fp32; with `gradient`, overwrite `product` with d(sum)/d(product)."""
    if compiled:
        # The last chunk is shorter, and documents to score have any length: one graph for all. The vocabulary stays a constant,
        # so that loads can be vectorized.
        for tensor in (product, labels):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        found: Tensor = _compiled_softmax()(product, labels, rule.scale, rule.softcap, gradient)
        return found
    block = _BLOCK_ROWS_CPU if product.device.type == "cpu" else product.shape[0]
    nats = torch.zeros(product.shape[0], dtype=torch.float32, device=product.device)
    for start in range(0, product.shape[0], block):
        rows = slice(start, start + block)
        target = labels[rows]
        labeled = target != IGNORED
        index = target.clamp(min=0)[:, None]
        logits = rule.apply(product[rows].float())
        log_p = torch.log_softmax(logits, dim=-1)
        nats[rows] = torch.where(labeled, -log_p.gather(1, index)[:, 0], 0.0)
        if gradient:
            p = log_p.exp_()
            p.scatter_add_(1, index, -torch.ones_like(index, dtype=p.dtype))
            if rule.softcap is not None:
                p *= 1 - (logits / rule.softcap) ** 2  # the derivative of tanh
            if rule.scale != 1.0:
                p *= rule.scale
            product[rows] = p.mul_(labeled[:, None])
    return nats


@cache
def _compiled_softmax() -> Any:
    return torch.compile(_softmax_at_once)


def _softmax_at_once(product: Tensor, labels: Tensor, scale: float, softcap: float | None, gradient: bool) -> Tensor:
    """`_softmax_in_place` without writes between its steps, so that a compiler can join them; uncompiled it is slow."""
    labeled = labels != IGNORED
    index = labels.clamp(min=0)[:, None]
    logits = LogitRule(scale, softcap).apply(product.float())
    norm = torch.logsumexp(logits, dim=-1, keepdim=True)
    nats = torch.where(labeled, (norm - logits.gather(1, index))[:, 0], 0.0)
    if gradient:
        # A comparison instead of a scatter, which would be a pass of its own.
        p = torch.exp(logits - norm) - (torch.arange(product.shape[1], device=product.device) == index).float()
        if softcap is not None:
            p = p * (1 - (logits / softcap) ** 2)
        product.copy_(torch.where(labeled[:, None], p * scale, 0.0))
    return nats


@torch.no_grad()
def token_nats(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None = None,
    rule: LogitRule = PLAIN,
    *,
    compiled: bool = False,
) -> Tensor:
    """Score tokens without gradients.

    Args:
        hidden: [N, H].
        weight: Output embedding [V, H].
        labels: int64 [N]; `IGNORED` rows score 0.
        bias: Bias of the output embedding [V], or None.
        rule: Turns the product into logits.
        compiled: Whether the softmax is compiled.

    Returns:
        -log p of each label in nats, fp32 [N].
    """
    parts, size = [], _chunk_rows(weight, compiled=compiled)
    for start in range(0, hidden.shape[0], size):
        rows = slice(start, start + size)
        product = _product(hidden[rows], weight, bias)
        parts.append(_softmax_in_place(product, labels[rows], rule, gradient=False, compiled=compiled))
    return torch.cat(parts)
