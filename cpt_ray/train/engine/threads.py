"""Threads on CPUs: the cores belong to the thread that trains, and gloo's own threads compute with one each.

torch's OpenMP (libgomp) lets threads spin for 3 ms where they wait for each other, unless the process has more OpenMP threads
than cores: then they sleep at once and have to be woken, at every operator. Gloo's run loops copy tensors with torch, and each
that does gets as many threads as the training one. One worker on two cores then has six, and a step of ZeRO-3, which gathers
every layer, waits half of its time (docs/log.md). torch settles the number of a thread for good when it first computes in
parallel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

_COPIED = 1 << 18
"""Elements of a first collective: torch copies in parallel from 32,768 on, and each should last until the other loops wake."""
_COLLECTIVES = 16
"""In flight at once, for the two run loops of a group: each has to take one."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside, also in threads that begin to compute there; afterwards with as many as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def settle_run_loops(*groups: dist.ProcessGroup) -> None:
    """Let the run loops of these gloo groups and of the group of all begin to compute: within `one_thread`, with one for good.

    Collective.
    """
    for group in (None, *groups):
        source = torch.zeros(_COPIED)
        gathered = torch.empty(_COPIED * dist.get_world_size(group))
        for work in [dist.all_gather_into_tensor(gathered, source, group=group, async_op=True) for _ in range(_COLLECTIVES)]:
            work.wait()
