"""Batches read ahead by a thread, into pinned memory, so that a GPU waits for neither disk nor copy.

Between `BatchSource` and the loop. In: batches by position. Out: the same batches. Guarantee: what a position holds does not
depend on what was read ahead; at most `ahead` steps are; an error of a batch is raised where that batch is asked for, with
its traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

import torch

from cpt_ray.train.order.batches import Batch

AHEAD = 2
"""Steps read ahead on a GPU: one being copied, one being read."""


class Prefetch:
    """Reads ahead in the order of positions; closes its thread on exit.

    Args:
        batch_at: Position to batch; called by one thread only.
        rows: Rows per step: the distance between two positions.
        device: Where the batches go. On a CPU there is nothing to hide: a thread would take a core from training.
        ahead: Steps read ahead; None is `AHEAD` on a GPU, else 0, which reads where it is asked to.
    """

    def __init__(self, batch_at: Callable[[int], Batch], *, rows: int, device: torch.device, ahead: int | None = None) -> None:
        on_gpu = device.type == "cuda"
        self._batch_at, self._rows, self._pin = batch_at, rows, on_gpu
        self._ahead = (AHEAD if on_gpu else 0) if ahead is None else ahead
        self._read: dict[int, Future[Batch]] = {}
        # A new thread's current device is the first one, where pinning would open a context.
        prepare = partial(torch.cuda.set_device, device) if on_gpu else None
        self._thread = ThreadPoolExecutor(1, "prefetch", prepare) if self._ahead else None

    def at(self, position: int) -> Batch:
        """The step that begins at `position`; the ones after it are then being read."""
        if self._thread is None:
            return self._batch_at(position)
        wanted = [position + step * self._rows for step in range(self._ahead + 1)]
        self._read = {
            place: self._read.get(place) or self._thread.submit(self._make, place) for place in wanted
        }  # what is no longer wanted is forgotten
        return self._read.pop(position).result()

    def _make(self, position: int) -> Batch:
        batch = self._batch_at(position)
        if not self._pin:
            return batch
        pinned = [replace(m, input_ids=m.input_ids.pin_memory(), labels=m.labels.pin_memory()) for m in batch.micro_batches]
        return replace(batch, micro_batches=tuple(pinned))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
