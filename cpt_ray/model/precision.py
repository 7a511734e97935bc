"""The precisions that a model is trained and scored in, with the dtype and the tolerances of each.

This is the only table of them: loading, the self-test, the state figures of a checkpoint and exports read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """The properties of a precision."""

    dtype: torch.dtype
    isolation_nats: float | None
    """Largest difference of a token's log-probability, packed versus alone, that the self-test allows. None: a tenth of what
    the test's control shows with the mask off, because rounding exceeds any useful fixed bound."""
    state_loss_bound: float
    """Largest relative difference of a fixed row's loss that is allowed after a checkpoint is loaded."""


PRECISIONS = {
    "fp32": Precision(torch.float32, isolation_nats=1e-4, state_loss_bound=1e-6),
    # The same weights under another sharding gave bitwise the same loss in fp32 and bf16. The bound allows for another GPU or
    # kernel, which rounds differently: a unit of bf16 is 4e-3, one of fp16 5e-4, and the loss is a mean over 127 tokens.
    "bf16": Precision(torch.bfloat16, isolation_nats=None, state_loss_bound=1e-3),
    "fp16": Precision(torch.float16, isolation_nats=None, state_loss_bound=1e-3),
}
