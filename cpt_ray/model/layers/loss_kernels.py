"""Which kernel computes the loss from hidden states: the first that works with the model's device, type and logit rule.

| name | where | what it does |
|---|---|---|
| `COMPILED` | GPU | `ChunkedCrossEntropy` with its softmax compiled |
| `LIGER` | GPU, if installed | chunks of rows, product and softmax in Triton (Hsu et al. 2024, section 3.2) |
| `CHUNKED` | anywhere | `ChunkedCrossEntropy` |

None of them holds all logits in fp32. Liger comes second because it waits for the device once per call (its
`ops/fused_linear_cross_entropy.py` counts the labels with `.item()`) and adds more, smaller chunks to the weight's gradient.
torch's own `linear_cross_entropy` is not used: its sum is rounded to bf16 (docs/log.md).
Guarantee: a kernel is chosen only after its loss and gradients on a small problem agreed with a plain fp32 cross-entropy.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from cpt_ray.model.loss import IGNORED, ChunkedCrossEntropy, LogitRule, token_nats

COMPILED, LIGER, CHUNKED = "compiled chunks", "Liger fused linear cross-entropy", "chunks"

logger = logging.getLogger(__name__)

_ROWS, _HIDDEN, _CLASSES = 48, 64, 320
_SAME = {torch.float32: 2e-3, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Largest relative difference of the loss and of a gradient's norm that counts as rounding; fp32 leaves room for TF32."""


def choose_kernel(device: torch.device, dtype: torch.dtype, rule: LogitRule, *, biased: bool) -> str:
    """The first kernel that works.

    Args:
        device: Of hidden states and weights.
        dtype: Of hidden states and weights.
        rule: Turns the product into logits.
        biased: Whether the output embedding has a bias.
    """
    candidates = (COMPILED, LIGER) if device.type == "cuda" else ()
    return next((kernel for kernel in candidates if works(kernel, device, dtype, rule, biased=biased)), CHUNKED)


def works(kernel: str, device: torch.device, dtype: torch.dtype, rule: LogitRule, *, biased: bool) -> bool:
    """Whether a kernel solves a small problem; logs why not, as a warning unless it is only not installed."""
    try:
        # A model that scores asks without gradients.
        with torch.inference_mode(False), torch.enable_grad():
            worst = _largest_difference(kernel, device, dtype, rule, biased=biased)
    except ImportError as error:
        logger.info("%s is not used: %s", kernel, error)
        return False
    except Exception as error:  # a kernel may fail in any way: no compiler, an old driver, another version
        logger.warning("%s is not used, it failed: %s: %s", kernel, type(error).__name__, (str(error).splitlines() or [""])[0])
        return False
    if not worst <= _SAME[dtype]:
        logger.warning("%s is not used: it differs by %.2g from a plain cross-entropy", kernel, worst)
        return False
    return True


def summed_nats(kernel: str, hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, rule: LogitRule) -> Tensor:
    """Sum of -log p(label) over the labeled rows, scalar fp32; arguments as in `ChunkedCrossEntropy`."""
    if kernel == LIGER:
        return _liger(hidden, weight, labels, bias, rule)
    loss: Tensor = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, labels, bias, rule, kernel == COMPILED
    )
    return loss


def _liger(hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, rule: LogitRule) -> Tensor:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    settings: dict[str, Any] = {} if rule.softcap is None else {"softcap": rule.softcap}
    fused = LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORED, reduction="sum", accum_dtype=torch.float32, **settings)
    if rule.scale != 1.0:  # Liger has no scale: scale * (h @ W.T + b) = (scale * h) @ W.T + scale * b
        hidden, bias = hidden * rule.scale, None if bias is None else bias * rule.scale
    loss: Tensor = fused(weight, hidden, labels, bias)
    return loss.float()


def _largest_difference(kernel: str, device: torch.device, dtype: torch.dtype, rule: LogitRule, *, biased: bool) -> float:
    """Largest relative difference of a kernel's loss, gradients and scores from those of a plain fp32 cross-entropy."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(_ROWS, _HIDDEN), (_CLASSES, _HIDDEN), *([(_CLASSES,)] if biased else [])]
    values = [torch.randn(shape, generator=generator).mul_(0.5).to(dtype) for shape in shapes]
    labels = torch.randint(_CLASSES, (_ROWS,), generator=generator)
    labels[::5] = IGNORED

    def solve(*inputs: Tensor, plain: bool) -> list[Tensor]:
        hidden, weight, *rest = (tensor.to(device, copy=True).requires_grad_() for tensor in inputs)
        bias, targets = rest[0] if rest else None, labels.to(device)
        if plain:
            logits = rule.apply(torch.nn.functional.linear(hidden, weight, bias))
            nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
            loss = nats.sum()
        else:
            loss = summed_nats(kernel, hidden, weight, targets, bias, rule)
            nats = token_nats(hidden, weight, targets, bias, rule, compiled=kernel == COMPILED)
        (loss * 0.5).backward()
        return [loss.detach(), nats.detach(), *(t.grad for t in (hidden, weight, *rest) if t.grad is not None)]

    expected = solve(*(value.float() for value in values), plain=True)
    found = solve(*values, plain=False)
    if len(found) != len(expected):
        raise RuntimeError(f"{len(found) - 2} gradients instead of {len(expected) - 2}")
    return max(float((one.float() - two).norm() / two.norm()) for one, two in zip(found, expected, strict=True))
