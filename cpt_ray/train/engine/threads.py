"""Threads on CPUs: the training thread gets the cores, and each of gloo's threads computes with one.

With torch's OpenMP (libgomp), threads spin for 3 ms while they wait for each other, unless the process has more OpenMP threads
than cores: then they sleep at once and must be woken at every operator. Gloo's run loops copy tensors with torch, and each one
that does gets as many threads as the training thread. One worker on two cores then has six, and a ZeRO-3 step, which gathers
every layer, spends half its time waiting (docs/log.md). torch fixes a thread's number of OpenMP threads when that thread first
computes in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

_COPIED = 1 << 18
"""Elements per collective: torch copies in parallel from 32,768 upward, and each should last until the other loops wake."""
_COLLECTIVES = 16
"""Collectives in flight at once, so that each of a group's two run loops takes one."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside, including in threads that start computing there; restore the number afterward."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def settle_run_loops(*groups: dist.ProcessGroup) -> None:
    """Make the run loops of these gloo groups and of the default group start computing; collective.

    Inside `one_thread`, this pins each of them to one thread.
    """
    for group in (None, *groups):
        source = torch.zeros(_COPIED)
        gathered = torch.empty(_COPIED * dist.get_world_size(group))
        for work in [dist.all_gather_into_tensor(gathered, source, group=group, async_op=True) for _ in range(_COLLECTIVES)]:
            work.wait()
