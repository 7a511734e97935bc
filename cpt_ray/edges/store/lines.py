"""Files that grow, on a store: each process sends what it appends in numbered segments, and readers join them again.

    metrics/attempt-0001.jsonl               in the mirror, whole
    metrics/attempt-0001.jsonl@000000000000  in the store: the bytes from 0 on
    metrics/attempt-0001.jsonl@000000262161  the next

A segment is named by the byte at which it begins, and is sent again as it grows until it has `_SEGMENT_BYTES`; so a reader's
own file says what it lacks, and sending twice changes nothing. A file has one writer. A thread per process sends every
`EVERY_S`; `flush` sends now, which a checkpoint waits for: a run that resumes from it has every line that led to it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from cpt_ray.edges.store.addresses import is_mirrored, url_of
from cpt_ray.edges.store.opening import ask, get_bytes, put_bytes
from cpt_ray.edges.store.transfer import Stored, listing
from cpt_ray.errors import CptRayError

logger = logging.getLogger(__name__)
EVERY_S = 5.0
_HERE_S = 1.0
_AT, _DIGITS = "@", 12
_SEGMENT_BYTES = 1 << 18

_growing: dict[Path, list[int]] = {}
"""Of each growing file of this process: where its last segment begins, and how far it was sent."""
_sending = threading.Lock()


def publish(path: Path) -> None:
    """Send what is appended to a file from now on, after what the store has of it; nothing for a path in no mirror.

    Raises:
        ArtifactError: If the store refuses to say what it has.
    """
    if is_mirrored(path):
        found = listing(path.parent)
        join_segments(path.parent, {name: one for name, one in found.items() if name.startswith(f"{path.name}{_AT}")})
        size = path.stat().st_size if path.exists() else 0
        # What a killed process wrote and did not send comes first: readers need every byte before the next.
        ends = [int(name[-_DIGITS:]) + one.size_bytes for name, one in found.items() if name.startswith(f"{path.name}{_AT}")]
        whole = found[path.name].size_bytes if path.name in found else 0
        sent = min(max([whole, *ends]), size)
        _growing.setdefault(path, [sent, sent])
        _sender()


def flush() -> None:
    """Send what this process has appended to its files.

    Raises:
        ArtifactError: If the store refuses it.
    """
    with _sending:
        for path, place in list(_growing.items()):
            start, end = place
            data = _read_from(path, start)
            if start + len(data) > end:
                ask(f"{url_of(path)}{_AT}{start:0{_DIGITS}d}", "cannot be written", functools.partial(put_bytes, data=data))
                place[1] = start + len(data)
                if len(data) >= _SEGMENT_BYTES:
                    place[0] = place[1]


def finish(path: Path) -> None:
    """Send the rest of a file that is complete, and watch it no longer."""
    if is_mirrored(path):
        flush()
        _growing.pop(path, None)


def join_segments(folder: Path, found: Mapping[str, Stored]) -> None:
    """Append to the files of a mirrored folder what the store has beyond them.

    Args:
        folder: The folder.
        found: Its objects; those that are no segments are left alone.

    Raises:
        ArtifactError: If the store refuses one.
    """
    for name in sorted(filter(is_segment, found)):
        base, _, digits = name.rpartition(_AT)
        path, start = folder / base, int(digits)
        here = path.stat().st_size if path.exists() else 0
        if start <= here < start + found[name].size_bytes:
            data = ask(f"{url_of(folder)}/{name}", "cannot be read", get_bytes)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)  # several processes of a node may join it
                here = stream.seek(0, os.SEEK_END)
                if here >= start:
                    stream.write(data[here - start :])


def cut_to_sent(folder: Path, found: Mapping[str, Stored], *, but: str) -> None:
    """Drop from the files of a folder the lines that a killed process wrote and did not send: other nodes do not have them.

    Args:
        folder: A folder in which no process writes now.
        found: Its objects in the store.
        but: A file to leave, whose process lives.
    """
    ends: dict[str, int] = {}
    for name in filter(is_segment, found):
        base, _, digits = name.rpartition(_AT)
        ends[base] = max(ends.get(base, 0), int(digits) + found[name].size_bytes)
    for path in folder.glob("*/*.jsonl"):
        name = path.relative_to(folder).as_posix()
        if name not in (*found, but) and path.stat().st_size > ends.get(name, 0):
            with path.open("r+b") as stream:
                stream.truncate(ends.get(name, 0))


def is_segment(name: str) -> bool:
    """Whether an object is a segment of a file."""
    return name[-_DIGITS - 1 : -_DIGITS] == _AT and name[-_DIGITS:].isdigit()


@functools.cache
def _sender() -> threading.Thread:
    """The thread of this process, started once."""
    thread = threading.Thread(target=_send_forever, daemon=True, name="segments")
    thread.start()
    atexit.register(_send_the_last)
    return thread


def _send_forever() -> None:
    while True:
        time.sleep(EVERY_S)
        try:
            flush()
        except CptRayError as error:
            # Not the end of training: the next checkpoint sends the same lines, and fails the run if it cannot.
            logger.info("lines of this process were not sent yet: %s", error)


def _send_the_last() -> None:
    with contextlib.suppress(CptRayError):
        flush()


def _read_from(path: Path, start: int) -> bytes:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        stream.seek(start)
        return stream.read()
    return b""


def look_every_s(path: Path) -> float:
    """Seconds between two looks at what grows at a path: a store has nothing new between two sendings."""
    return EVERY_S if is_mirrored(path) else _HERE_S
