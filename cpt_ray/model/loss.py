"""Cross-entropy from hidden states, without a full [tokens, vocabulary] matrix in fp32.

At 135M parameters and a vocabulary of 49k the logits are the memory. The matrix product runs over large chunks, the softmax
over blocks of rows that stay in cache, and the gradient is made in the forward pass, so logits are never kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

IGNORED = -100
"""The label of a token that has none: padding, and the first token of a segment."""

_CHUNK_ROWS = 2048
# On CPU a block of 16 rows of fp32 logits (3 MB at 49k) stays in cache: half the time of one block.
_BLOCK_ROWS_CPU = 16


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(label) over the labelled rows, in fp32; gradients in the inputs' dtype. Once differentiable."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """Compute the sum and both gradients.

        Args:
            ctx: Autograd's.
            hidden: [N, H].
            weight: Output embedding [V, H].
            labels: int64 [N]; `IGNORED` rows add nothing.

        Returns:
            Scalar fp32 sum in nats.
        """
        grad_hidden = torch.empty_like(hidden)
        chunks = range(0, hidden.shape[0], _CHUNK_ROWS)
        # One chunk needs no wider sum; several would lose bits in bf16.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32 if len(chunks) > 1 else weight.dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in chunks:
            rows = slice(start, start + _CHUNK_ROWS)
            logits = hidden[rows] @ weight.T
            total += _softmax_in_place(logits, labels[rows], gradient=True).sum()
            torch.mm(logits, weight, out=grad_hidden[rows])
            if len(chunks) == 1:
                grad_weight = logits.T @ hidden[rows]
            else:
                grad_weight += logits.T @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None]:
        """Scale the gradients that the forward pass made."""
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_output, grad_weight * grad_output, None


def _softmax_in_place(logits: Tensor, labels: Tensor, *, gradient: bool) -> Tensor:
    """Return -log p per row [N] in fp32; with `gradient`, overwrite `logits` with d(sum)/d(logits)."""
    block = _BLOCK_ROWS_CPU if logits.device.type == "cpu" else logits.shape[0]
    nats = torch.zeros(logits.shape[0], dtype=torch.float32, device=logits.device)
    for start in range(0, logits.shape[0], block):
        rows = slice(start, start + block)
        target = labels[rows]
        labelled = target != IGNORED
        index = target.clamp(min=0)[:, None]
        log_p = torch.log_softmax(logits[rows].float(), dim=-1)
        nats[rows] = torch.where(labelled, -log_p.gather(1, index)[:, 0], 0.0)
        if gradient:
            p = log_p.exp_()
            p.scatter_add_(1, index, -torch.ones_like(index, dtype=p.dtype))
            logits[rows] = p.mul_(labelled[:, None])
    return nats


@torch.no_grad()
def token_nats(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Score tokens without gradients.

    Args:
        hidden: [N, H].
        weight: Output embedding [V, H].
        labels: int64 [N]; `IGNORED` rows score 0.

    Returns:
        -log p of each label in nats, fp32 [N].
    """
    parts = []
    for start in range(0, hidden.shape[0], _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        parts.append(_softmax_in_place(hidden[rows] @ weight.T, labels[rows], gradient=False))
    return torch.cat(parts)


class LossHead(nn.Module):
    """An output embedding that returns losses instead of logits when it is given labels.

    It keeps the parameter's name, and is called as a module: ZeRO-3 gathers a parameter around its module's own call only.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, hidden: Tensor, labels: Tensor | None = None, *, per_token: bool = False) -> Tensor:
        """Return logits [N, V] without labels, else the sum in nats, or with `per_token` nats [N] without gradients."""
        if labels is None:
            return hidden @ self.weight.T
        if per_token:
            return token_nats(hidden, self.weight, labels)
        loss: Tensor = ChunkedCrossEntropy.apply(hidden, self.weight, labels)  # type: ignore[no-untyped-call]
        return loss
