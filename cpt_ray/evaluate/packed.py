"""Forward passes over packed segments: what bits per byte and exams share.

In: token ids of segments that cannot attend to each other. Out: final hidden states at the last positions of each, of which
alone logits are computed. Guarantee: a segment's result does not depend on what it is packed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cpt_ray.model.attention.isolation import hidden_states
from cpt_ray.model.layers.compiled import filler_lengths

_PASS_TOKENS = {"cpu": 1024}
_PASS_TOKENS_ELSEWHERE = 16384


def pass_tokens(setting: int | Literal["auto"], device: torch.device) -> int:
    """Maximum input tokens of a forward pass under `evaluate.batch_tokens`.

    On a CPU 1,024 tokens of a 135M model stay in cache: 5 % less time than 4,096, and the same figures to the last bit.
    """
    return _PASS_TOKENS.get(device.type, _PASS_TOKENS_ELSEWHERE) if setting == "auto" else setting


def plan_forwards(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group segments, given by their lengths, into forward passes of at most `batch_tokens`; a longer one gets its own pass.

    Longest first, ties in order: the same segments always give the same passes, and the largest runs first.

    Returns:
        Indices of the segments of each pass.
    """
    forwards: list[list[int]] = []
    used = batch_tokens
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not forwards or used + lengths[index] > batch_tokens:
            forwards.append([])
            used = 0
        forwards[-1].append(index)
        used += lengths[index]
    return forwards


@torch.no_grad()
def last_states(
    model: PreTrainedModel, segments: Sequence[Sequence[int]], counts: Sequence[int], *, row_tokens: int = 0, filler: int = 0
) -> Tensor:
    """Run the model's body over one row of segments.

    Args:
        model: A causal LM with document attention, in eval mode.
        segments: Token ids of each segment.
        counts: How many of its last positions are wanted of each.
        row_tokens: Tokens of the row; a shorter one is filled up with `filler`, as compiled layers need it.
        filler: Token id.

    Returns:
        Hidden states [sum of counts, H], in the order of the segments.
    """
    device = model.device
    lengths = [len(segment) for segment in segments]
    missing = max(0, row_tokens - sum(lengths))
    ids = torch.tensor([*chain.from_iterable(segments), *[filler] * missing], device=device)
    states = hidden_states(model, ids, lengths + filler_lengths(missing))
    sizes, wanted = torch.tensor(lengths), torch.tensor(counts)
    starts = sizes.cumsum(0) - wanted
    # Position p of the result is place p of all wanted ones before it, moved to where its segment's wanted places start.
    places = torch.arange(int(wanted.sum())) + (starts - (wanted.cumsum(0) - wanted)).repeat_interleave(wanted)
    return states[places.to(device)]
