"""Rows per forward pass, chosen by memory; and what to do when memory is not enough.

Before the engine is built. In: the loaded model, and the bytes of the states that will join it. Out: a number of rows, the same
on all workers. Candidates divide a worker's rows of a step, so that no row is idle. On a GPU each is tried, the largest first,
with the real forward and backward pass beside a block as large as the missing states. Guarantee: the choice changes memory and
speed, not what is learned: a step sums the gradients of its micro-batches.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.errors import TrainingError
from cpt_ray.records import ModelShape
from cpt_ray.train.engine.activation_bytes import activation_bytes
from cpt_ray.train.engine.engine import PackedLossModel
from cpt_ray.train.engine.state_bytes import state_bytes

logger = logging.getLogger(__name__)

MOST_TOKENS = {"cuda": 65_536, "cpu": 2_048}
"""Tokens per pass beyond which a device is no faster: a GPU's kernels outlast their launches from some 32,000 on."""
_SPARE_SHARE = 0.06
"""Share of a GPU's memory left to communication buckets, the logits' chunks, fragmentation and other processes."""


@dataclass(frozen=True)
class Passes:
    """What a worker's passes consist of."""

    shape: ModelShape
    train: TrainConfig
    deepspeed: DeepSpeedConfig
    num_workers: int
    rows: int
    """Rows of a step on each worker."""
    row_tokens: int
    device: torch.device

    @property
    def state_bytes(self) -> int:
        """Bytes of weights, gradients and optimizer on the device."""
        return state_bytes(self.shape, self.deepspeed, self.train, num_workers=self.num_workers).device

    def candidates(self) -> list[int]:
        """Rows per pass, largest first: those that divide `rows`, up to where a device is no faster."""
        most = max(1, MOST_TOKENS[self.device.type] // self.row_tokens)
        return [rows for rows in range(min(self.rows, most), 0, -1) if self.rows % rows == 0]

    def below(self, rows: int, *, memory: int) -> int | None:
        """The rows per pass that should fit where `rows` did not, in `memory` bytes; None if no pass should."""
        room, failed = memory * (1 - _SPARE_SHARE) - self.state_bytes, self._activations(rows)
        # The estimate has been too low once, so a pass must also be clearly smaller than the one that failed.
        fitting = [n for n in range(1, rows) if self.rows % n == 0 and self._activations(n) <= min(room, 0.75 * failed)]
        return max(fitting, default=None)

    def _activations(self, rows: int) -> int:
        return activation_bytes(self.shape, self.train, tokens=rows * self.row_tokens)


def choose_micro_batch(passes: Passes, lm: PreTrainedModel) -> int:
    """The rows per pass: `train.micro_batch_size`, or where it is `auto` the most that fit; collective.

    Args:
        passes: What is passed.
        lm: The loaded model, as the engine will get it.

    Raises:
        TrainingError: If not even one row fits.
    """
    if passes.train.micro_batch_size != "auto":
        return passes.train.micro_batch_size
    mine = passes.candidates()[0]
    if passes.device.type == "cuda":
        held = sum(parameter.numel() * parameter.element_size() for parameter in lm.parameters())
        spare = int(_SPARE_SHARE * _total_memory(passes.device))
        mine = largest_that_fits(passes, lm, block=max(0, passes.state_bytes - held) + spare)
    # The same on all workers: each makes as many passes as the others, or collectives hang. 0 is none.
    chosen = torch.tensor(mine, device=passes.device)
    dist.all_reduce(chosen, op=dist.ReduceOp.MIN)
    if not chosen:
        raise TrainingError(
            f"a forward and backward pass of one row of {passes.row_tokens} tokens does not fit beside "
            f"{_gib(passes.state_bytes)} of weights, gradients and optimizer",
            fix=_ONE_ROW,
        )
    logger.info("train.micro_batch_size is %d rows of %d tokens, chosen by memory", int(chosen), passes.row_tokens)
    return int(chosen)


def largest_that_fits(passes: Passes, lm: PreTrainedModel, *, block: int) -> int:
    """The first candidate whose pass fits beside `block` bytes, or 0."""
    return next((rows for rows in passes.candidates() if fits(rows, passes, lm, block=block)), 0)


def fits(rows: int, passes: Passes, lm: PreTrainedModel, *, block: int) -> bool:
    """Whether a forward and backward pass of `rows` fits beside a block of bytes; leaves no gradient and no memory behind.

    It is not compiled and keeps 16-bit gradients of all weights, so it takes more than a pass of the engine.
    """
    model = PackedLossModel(lm, isolate=True)
    if passes.train.gradient_checkpointing:
        lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lm.train()  # nothing is recomputed in eval mode
    try:
        beside = torch.empty(block, dtype=torch.uint8, device=passes.device)
        ids = torch.zeros(rows * passes.row_tokens, dtype=torch.int64, device=passes.device)
        model(ids, ids, (passes.row_tokens,) * rows).backward()
        del beside
    except torch.OutOfMemoryError:
        return False
    finally:
        lm.zero_grad(set_to_none=True)
        if passes.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


_ONE_ROW = (
    "set train.gradient_checkpointing=true, use a DeepSpeed file with a higher ZeRO stage over more workers or with offload, "
    "or shorten prepare.pack.sequence_length"
)


@contextmanager
def out_of_memory_named(passes: Passes, micro_batch: int) -> Iterator[None]:
    """Turn a GPU's out-of-memory error into one that names the micro-batch that should fit.

    Raises:
        TrainingError: In its place.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise explain_out_of_memory(passes, micro_batch, memory=_total_memory(passes.device)) from error


def explain_out_of_memory(passes: Passes, micro_batch: int, *, memory: int) -> TrainingError:
    """The error for a run that did not fit in `memory` bytes."""
    fitting = passes.below(micro_batch, memory=memory)
    return TrainingError(
        f"rank {dist.get_rank()}: out of GPU memory with micro-batches of {micro_batch} rows of {passes.row_tokens} "
        f"tokens; weights, gradients and optimizer take about {_gib(passes.state_bytes)} of {_gib(memory)}",
        fix=f"set train.micro_batch_size={fitting}, which should fit, or auto, and re-run the same command to resume: the "
        "global batch stays the same, and with it the result"
        if fitting is not None
        else f"set train.micro_batch_size=1; if that does not fit either, {_ONE_ROW}"
        if micro_batch > 1
        else _ONE_ROW,
    )


def _total_memory(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
