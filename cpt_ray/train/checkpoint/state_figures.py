"""The state guard: figures that must be the same before a save and after a load, with any number of workers.

Each save writes the figures to the checkpoint's manifest, and each load measures them again. The loss of a fixed row reveals
lost or changed weights, but not a lost optimizer, which becomes visible in the loss only steps later. So the global L2 norms of
the fp32 master weights and of the optimizer's moments are compared too, and its step count: Adam's bias correction follows it.

Guarantee: a state whose weights, moments or step count differ by more than the stated bounds is refused before a step is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cpt_ray.errors import TrainingError
from cpt_ray.model.bases.window import LEAST_POSITIONS
from cpt_ray.model.precision import PRECISIONS
from cpt_ray.records import StateFigures

NORM_BOUND = 1e-6
"""Relative; the sums are in fp64, so only their order differs between worker counts."""
_ROW_TOKENS = LEAST_POSITIONS
"""A row that every base takes, whatever positions it has learned."""


def measure_state(
    score: Callable[[Tensor, tuple[int, ...], bool], Tensor],
    optimizer: Any,
    *,
    moments: Sequence[str],
    zero_stage: int,
    vocabulary_size: int,
    device: torch.device,
) -> StateFigures:
    """Measure the figures; collective.

    Args:
        score: The engine's scoring function, see `model.attention.self_test.ScoreTokens`.
        optimizer: DeepSpeed's optimizer, at any stage.
        moments: Keys of the optimizer's state to measure; a parameter without one counts as 0.
        zero_stage: At stage 0 every worker holds everything, otherwise a share.
        vocabulary_size: The fixed row's ids are drawn below it from a fixed seed; every rank scores the same row.
        device: Device of the row.
    """
    generator = torch.Generator().manual_seed(1)
    row = torch.randint(vocabulary_size, (_ROW_TOKENS,), generator=generator).to(device)
    loss = score(row, (_ROW_TOKENS,), True)[:-1].double().mean()
    sums, steps = _local_sums(optimizer, moments, zero_stage)
    totals = torch.tensor(sums, dtype=torch.float64, device=device)
    if zero_stage > 0:
        dist.all_reduce(totals)
    extremes = torch.tensor([max(steps), -min(steps)], dtype=torch.int64, device=device)
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    most, least = int(extremes[0]), -int(extremes[1])
    if most != least:
        raise TrainingError(
            f"the optimizer's step counts range from {least} to {most} over parameters and workers; they must be equal",
            fix="this is a bug in the optimizer's sharding: resume with the worker count that wrote the last checkpoint",
        )
    weights, *norms = (float(total) ** 0.5 for total in totals)
    return StateFigures(
        loss=float(loss), weights_norm=weights, moments=dict(zip(moments, norms, strict=True)), optimizer_steps=most
    )


def require_same_state(saved: StateFigures, loaded: StateFigures, *, precision: str, place: str) -> None:
    """Compare what was saved with what was loaded.

    Raises:
        TrainingError: Naming each figure that differs by more than its bound.
    """
    bounds = {"loss": PRECISIONS[precision].state_loss_bound, "optimizer_steps": 0.0}
    was, now = _by_name(saved), _by_name(loaded)
    wrong = []
    for name in {**was, **now}:
        bound = bounds.get(name, NORM_BOUND)
        before, after = was.get(name, math.nan), now.get(name, math.nan)
        if not abs(after - before) <= bound * abs(before):
            wrong.append(f"{name} was {before:.9g} and is {after:.9g} (allowed {bound:g} relative)")
    if wrong:
        raise TrainingError(
            f"{place}: the loaded state differs from the saved one: {'; '.join(wrong)}",
            fix=f"delete {place} to resume from an earlier checkpoint. If this recurs, keep the worker count that wrote it",
        )


def _by_name(figures: StateFigures) -> dict[str, float]:
    norms = {f"{moment}_norm": norm for moment, norm in figures.moments.items()}
    return {"loss": figures.loss, "weights_norm": figures.weights_norm, **norms, "optimizer_steps": figures.optimizer_steps}


def _local_sums(optimizer: Any, moments: Sequence[str], zero_stage: int) -> tuple[list[float], list[int]]:
    """Sums of squares of this worker's master weights and moments, and the step count of each of its tensors."""
    base = getattr(optimizer, "optimizer", optimizer)
    keep = _unpadded_parts(optimizer) if zero_stage == 3 else {}
    sums, steps = [0.0] * (1 + len(moments)), []
    for master, state in base.state.items():
        steps.append(int(state["step"]))
        for place, tensor in enumerate((master, *map(state.get, moments))):
            if tensor is None:
                continue
            flat = tensor.detach().reshape(-1)
            # Scales of quantized blocks have no place of their own for padding.
            aligned = keep and flat.numel() == master.numel()
            parts = [flat.narrow(0, *span) for span in keep[id(master)]] if aligned else [flat]
            sums[place] += sum(_sum_of_squares(part) for part in parts)
    return sums, steps or [0]


def _sum_of_squares(tensor: Tensor) -> float:
    # In pieces: a whole copy in fp64 would take another two times the state's memory.
    return sum(float(piece.double().square().sum()) for piece in tensor.split(1 << 22))


def _unpadded_parts(optimizer: Any) -> dict[int, list[tuple[int, int]]]:
    """Stage 3: (start, length) of the spans that are not padding, by the id of the flat tensor.

    A parameter's last part is padded with uninitialized memory, which then takes part in every step.
    """
    parts: dict[int, list[tuple[int, int]]] = {}
    rank = dist.get_rank()
    for flat, parameters in zip(optimizer.fp32_partitioned_groups_flat, optimizer.fp16_groups, strict=True):
        spans, offset = [], 0
        for parameter in parameters:
            size = parameter.ds_tensor.ds_numel
            spans.append((offset, max(0, min(size, parameter.ds_numel - rank * size))))
            offset += size
        parts[id(flat)] = spans
    return parts
