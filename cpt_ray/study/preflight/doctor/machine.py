"""What a machine has: memory, disk, shared memory, open files, ports, a clock. Runs here, or on the node that is asked.

Out: findings. Everything is tried: a file is written, a port is opened, the kernel is asked.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

import cpt_ray
from cpt_ray.records import Finding

_GIB = 1 << 30
_LEAST_MEMORY = 4 * _GIB
_LEAST_DISK = 10 * _GIB
_LEAST_SHARED = _GIB
_LEAST_FILES = 4096
_SHARED = Path("/dev/shm")  # noqa: S108 -- where Ray's object store, NCCL and DeepSpeed's collectives keep what they share
_UNSYNCHRONIZED = 5
"""`adjtimex(2)` returns TIME_ERROR while no time service disciplines the clock."""
_TIMEX_BYTES = 512
"""More than `struct timex` has on any Linux."""


def check_machine(folder: Path | None = None) -> Iterator[Finding]:
    """All checks of a machine.

    Args:
        folder: Where checkpoints are staged; the system's temporary folder if none is given.
    """
    yield check_memory(psutil.virtual_memory().available)
    yield check_folder("temporary folder" if folder is None else "runtime.scratch", folder or Path(tempfile.gettempdir()))
    yield check_shared_memory(_SHARED)
    yield check_open_files()
    yield check_ports()
    yield check_clock()


def check_memory(available: int, least: int = _LEAST_MEMORY) -> Finding:
    """Memory that is free or can be freed, in bytes, against what training a small model takes."""
    found = f"{available / _GIB:.1f} GiB available, {os.cpu_count()} CPUs"
    if available < least:
        return Finding(
            "memory", found, "warn", f"free memory to {least / _GIB:.0f} GiB; cpt-ray plan CONFIG says what a study takes"
        )
    return Finding("memory", found)


def check_folder(what: str, folder: Path, least: int = _LEAST_DISK) -> Finding:
    """Whether a folder, or the nearest above it that exists, can be written, and the free space of its disk."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    key = what if what.startswith(("study.", "runtime.")) else "TMPDIR"
    try:
        with tempfile.TemporaryFile(dir=there) as stream:
            stream.write(b"\0" * 4096)
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(
            what, f"{there}: cannot be written: {error.strerror}", "fail", f"set {key} to a folder that you can write to"
        )
    if free < least:
        return Finding(
            what, f"{there}: {free / _GIB:.1f} GiB free", "warn", f"free {least / _GIB:.0f} GiB, or set {key} to a larger disk"
        )
    return Finding(what, f"{there}: writable, {free / _GIB:.1f} GiB free")


def check_shared_memory(folder: Path, least: int = _LEAST_SHARED) -> Finding:
    """Space in /dev/shm, which containers cut to 64 MiB unless they are told otherwise."""
    if not folder.is_dir():
        return Finding("shared memory", f"there is no {folder}", "warn", f"mount a tmpfs at {folder}")
    size = shutil.disk_usage(folder)
    found = f"{folder}: {size.free / _GIB:.2f} of {size.total / _GIB:.2f} GiB free"
    if size.free < least:
        fix = (
            f"docker run --shm-size={max(2, 2 * least // _GIB)}g, or in Kubernetes an emptyDir with medium: Memory at {folder}"
        )
        return Finding("shared memory", found, "warn", fix)
    return Finding("shared memory", found)


def check_open_files(least: int = _LEAST_FILES) -> Finding:
    """The limit of open files of this process: each worker of Ray holds dozens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < least:
        fix = f"ulimit -n {min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536}  (before the command)"
        return Finding("open files", f"at most {soft}", "warn", fix)
    return Finding("open files", f"at most {soft}")


def check_ports() -> Finding:
    """Whether processes of this machine reach each other: by loopback, and by its name, which gloo looks up."""
    name = socket.gethostname()
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname()[:2], timeout=5).close()
    except OSError as error:
        return Finding("ports", f"no connection to 127.0.0.1: {error}", "fail", "allow loopback in the firewall or the sandbox")
    try:
        address = str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError as error:
        fix = f"echo '127.0.1.1 {name}' | sudo tee -a /etc/hosts"
        return Finding("ports", f"the host name {name} has no address: {error}", "fail", fix)
    return Finding("ports", f"loopback answers, {name} is {address}")


def check_clock(now: float | None = None) -> Finding:
    """Whether the clock can be right, and whether a time service keeps it so; leases and heartbeats are compared by clocks."""
    now = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    fix = "sudo timedatectl set-ntp true  (or start chrony or ntpd)"
    if now < Path(cpt_ray.__file__).stat().st_mtime:
        return Finding("clock", f"{shown}, before cpt-ray was installed", "fail", fix)
    if _is_unsynchronized():
        return Finding("clock", f"{shown}, and no time service keeps it right", "warn", fix)
    return Finding("clock", shown)


def _is_unsynchronized() -> bool:
    try:
        # All zero: the kernel is asked and nothing is set.
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return False
    return state == _UNSYNCHRONIZED
