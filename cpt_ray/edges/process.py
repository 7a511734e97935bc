"""Processes: what to set before libraries are imported or a process starts, how imports run, and pools of processes."""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ALLOCATOR = "GLIBC_TUNABLES"
"""Settings of glibc's allocator; read when a process starts."""
RECYCLE_MEMORY = (
    # glibc returns every large buffer to the system and faults it in again at the next step: 0.1 to 0.5 million page
    # faults per step at 135M parameters, a fifth of the time. The price is that a process keeps its peak memory.
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:glibc.malloc.top_pad=268435456"
)


NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
"""Environment of a process that computes on the CPU, whatever the machine has."""
DEVICES = Path("/dev")
_GPUS = ("nvidia[0-9]*", "kfd", "dxg")
"""Devices of NVIDIA, of AMD, and of Windows below WSL."""


def choose_accelerator() -> None:
    """Tell DeepSpeed to use the CPU if there is no GPU: its own detection warns at every import."""
    # A container may hold any of a host's cards, so not only nvidia0.
    if "CUDA_VISIBLE_DEVICES" not in os.environ and not any(any(DEVICES.glob(name)) for name in _GPUS):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def quieten() -> None:
    """Keep library banners out of terminal and notebook; must run before the libraries are imported."""
    # setdefault: what users have set in their environment wins.
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "TQDM_DISABLE": "1",
        "RAY_DEDUP_LOGS": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import large libraries without garbage collection, which takes a quarter of the time and finds nothing to free.

    What was imported is exempt from later collections.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.enable()


@contextlib.contextmanager
def pretend_absent(module: str) -> Iterator[None]:
    """Let libraries that import `module` only if it is installed believe that it is not; an imported one stays."""
    if module in sys.modules:
        yield
        return
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]
    modules[module] = None  # how Python marks a module that cannot be imported
    try:
        yield
    finally:
        del modules[module]


class _Process(SpawnProcess):
    """A process that imports the module of its task, and not the program that started it.

    Python's own runs the main file again in each process, so that a script without `if __name__ == "__main__":` would begin
    anew in all of them.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  (the name is Python's)
        program = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = program


class _Context(SpawnContext):
    Process = _Process


class _Renewed(Executor):
    """A pool of processes that starts afresh after one of them was killed, which breaks Python's own for good."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # Started afresh, not forked: a fork of a process with threads may hang.
        return ProcessPoolExecutor(self._size, mp_context=_Context(), initializer=_end_with_parent)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except BrokenProcessPool:
            self._pool = self._start()
            return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@contextlib.contextmanager
def process_pool(size: int) -> Iterator[Executor]:
    """A pool of processes that end with the block, with this process however it ends, and at once on Ctrl-C.

    If one is killed, all futures that are not done raise `BrokenProcessPool`; what is submitted next has new processes.
    """
    before = set(multiprocessing.active_children())
    pool = _Renewed(size)
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()  # else leaving the block would wait for the units at work
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a traceback of each process would bury the one line that Ctrl-C prints
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    # A killed parent does not tell a pool's processes, which would wait for work forever.
    threading.Thread(target=wait, daemon=True).start()
