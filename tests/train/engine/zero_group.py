"""Processes under gloo that run one function after another: what ZeRO needs, without Ray.

A group is started once and receives jobs; functions are sent by name and must be at the top level of a module. A job that fails
on any rank ends the group, because its collectives are out of step by then; the next job starts a new one.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

import torch

_TIMEOUT_S = 300


class JobError(Exception):
    """A job failed; the message contains the traceback of each rank that failed."""


class ZeroGroup:
    """A process group of `world_size` workers, started with the first job."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._workers: list[multiprocessing.process.BaseProcess] = []
        self._pipes: list[Connection] = []

    def run(self, function: Callable[..., Any], *args: Any, timeout_s: float = _TIMEOUT_S) -> list[Any]:
        """Call `function(*args)` on every rank; returns the results by rank.

        Raises:
            JobError: If a rank raised, died, or did not answer for `timeout_s` seconds.
        """
        if not self._workers:
            self._start()
        results: list[Any] = [None] * self.world_size
        failures: dict[int, str] = {}
        waiting = dict(zip(self._pipes, range(self.world_size), strict=True))
        for pipe, rank in waiting.items():
            try:
                pipe.send((function, args))
            except OSError:
                failures[rank] = "died before the job"
        while waiting and not failures:
            ready = wait(list(waiting), timeout_s)
            if not ready:
                failures = dict.fromkeys(waiting.values(), f"did not answer for {timeout_s} s")
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    failed, value = pipe.recv()
                except (EOFError, OSError):
                    failed, value = True, "died"
                if failed:
                    failures[rank] = value
                else:
                    results[rank] = value
        if failures:
            self.close()
            raise JobError("\n".join(f"rank {rank}: {text}" for rank, text in sorted(failures.items())))
        return results

    def close(self) -> None:
        """End the workers; the next `run` starts new ones."""
        for worker in self._workers:
            worker.kill()
            worker.join()
        for pipe in self._pipes:
            pipe.close()
        self._workers, self._pipes = [], []

    def __enter__(self) -> ZeroGroup:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        # Forked from a process that has imported everything and done nothing else: seconds of imports are spent once, not by
        # each worker. Where there is a GPU, imports begin to use it, and a fork cannot.
        context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "forkserver")
        multiprocessing.set_forkserver_preload(["cpt_ray.train.worker"])
        # A file, not a port: another process may take a free port before the group does.
        self._folder = tempfile.TemporaryDirectory(prefix="zero-group-")
        meeting = f"file://{self._folder.name}/meeting"
        for rank in range(self.world_size):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_serve, args=(theirs, rank, self.world_size, meeting), daemon=True)
            worker.start()
            theirs.close()
            self._workers.append(worker)
            self._pipes.append(ours)


class ZeroGroups:
    """The groups of a test session: one at a time, because each worker holds half a gigabyte."""

    def __init__(self) -> None:
        self._group: ZeroGroup | None = None

    def of(self, world_size: int) -> ZeroGroup:
        """The running group if it has that size, else a new one in its place."""
        if self._group is None or self._group.world_size != world_size:
            self.close()
            self._group = ZeroGroup(world_size)
        return self._group

    def close(self) -> None:
        """End the running group."""
        if self._group is not None:
            self._group.close()


def _serve(pipe: Connection, rank: int, world_size: int, meeting: str) -> None:
    from cpt_ray.edges.ray_runtime import operator_environment, put_interpreter_on_path

    put_interpreter_on_path()
    os.environ |= {
        **operator_environment(),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",  # asked for by DeepSpeed, and not used
        "GLOO_SOCKET_IFNAME": "lo",
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((False, function(*args)))
        except BaseException:  # the caller decides what to do with it
            pipe.send((True, traceback.format_exc()))
