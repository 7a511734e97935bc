"""Dropout: which layers drop activations, and masks that are a function of the seed and the row.

In: a model; a run's seed and a row's position in the order of samples. Out: a sentence for the run's record; torch's generators
seeded. Guarantee: what is dropped in a forward pass depends on the seed, the position of its first row and the number of its
rows: not on earlier steps, so a resumed run drops the same, nor on the number of workers.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn


def describe_dropout(model: nn.Module) -> str | None:
    """The dropout that a model applies in training, and what decides its masks; None if there is none.

    Dropout on attention weights, which some configurations ask for, is not applied (`model.attention.isolation`).
    """
    layers = Counter(module.p for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd) and module.p)
    if not layers:
        return None
    rates = ", ".join(f"{rate:g} in {count} layer{'s' if count > 1 else ''}" for rate, count in sorted(layers.items()))
    return f"{rates}; masks by seed, position of a pass's first row, and rows per pass; none on attention weights"


def seed_dropout(seed: int, first_position: int) -> None:
    """Seed torch's generators for one forward pass.

    Args:
        seed: The run's.
        first_position: Position of the pass's first row in the order of samples.
    """
    # Python's hash of a tuple of integers is the same in every process; torch takes 64 bits of it.
    torch.manual_seed(hash((seed, first_position)))
