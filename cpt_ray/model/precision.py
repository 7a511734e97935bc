"""The precisions that a model is trained and scored in, and what follows from each: its type, and how exact is exact.

The one table of them: loading, the self-test, the state figures of a checkpoint and exports read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """What is known of a precision."""

    dtype: torch.dtype
    isolation_nats: float | None
    """Largest difference of a token's log-probability, packed against alone, that the self-test allows. None: a tenth of what
    the test's control shows with the mask off, because rounding is larger than any fixed bound worth having."""
    state_loss_bound: float
    """Relative difference of the loss of a fixed row that a checkpoint may show after it was loaded."""


PRECISIONS = {
    "fp32": Precision(torch.float32, isolation_nats=1e-4, state_loss_bound=1e-6),
    # The same weights at another sharding gave the same loss to the last bit in fp32 and bf16. The bound allows for another GPU
    # or kernel, which rounds differently: a unit of bf16 is 4e-3, one of fp16 5e-4, and the loss is a mean over 127 tokens.
    "bf16": Precision(torch.bfloat16, isolation_nats=None, state_loss_bound=1e-3),
    "fp16": Precision(torch.float16, isolation_nats=None, state_loss_bound=1e-3),
}
