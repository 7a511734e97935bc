"""Ask the filesystem of a store: patiently where it may recover, at once and with a fix where it will not.

The filesystems are those that sources are read through, with the same credentials. Guarantee: an error of the store becomes an
`ArtifactError` that names the object and a fix; a store that is throttled, answers 5xx or cuts connections for less than
`PATIENCE_S` costs time only.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

import fsspec
from pyarrow import fs as arrow

from cpt_ray.edges.source_files import stores
from cpt_ray.edges.source_files.answers import fix_of
from cpt_ray.errors import ArtifactError

logger = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE_S = 120.0
"""How long one request is repeated."""
FIRST_PATIENCE_S = 10.0
"""The same for a bucket that has not answered this study yet: its name or the network may be wrong."""
_LONGEST_WAIT_S = 10.0
CHUNK = 1 << 23
"""Bytes that are sent or fetched at once."""
_FINAL = re.compile(
    r"NO_SUCH_BUCKET|NoSuchBucket|ACCESS_DENIED|AccessDenied|PERMISSION_DENIED|Forbidden|\b403\b|\b401\b|Unauthorized"
    r"|INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch|INVALID_SIGNATURE"
    r"|EXPIRED_TOKEN|ExpiredToken|TokenRefreshRequired|INVALID_CLIENT_TOKEN_ID|InvalidToken|NoCredentials"
    r"|ImportError|ModuleNotFoundError|Protocol not known|MethodNotAllowed|METHOD_NOT_ALLOWED"
)
_EXPIRED = re.compile(r"EXPIRED_TOKEN|ExpiredToken|TokenRefreshRequired|InvalidToken|INVALID_CLIENT_TOKEN_ID")

ANSWERED = "CPT_RAY_ANSWERED"
"""Environment variable of a worker: buckets that have answered its driver, separated by spaces."""

_answered: set[str] = set(os.environ.get(ANSWERED, "").split())
"""Buckets that have answered this process, or the one that gave it its work."""
_opened: dict[str, arrow.FileSystem] = {}

stores.register()


def answered() -> frozenset[str]:
    """The buckets that have answered: what a driver hands to its workers, which may begin while one does not."""
    return frozenset(_answered)


def environment() -> dict[str, str]:
    """The same for a process that begins with it in its environment."""
    return {ANSWERED: " ".join(sorted(_answered))} if _answered else {}


def rely_on(buckets: Iterable[str]) -> None:
    """Be as patient with these buckets as the process that they have answered."""
    _answered.update(buckets)


def forget(*buckets: str) -> None:
    """Open these buckets anew, all if none is named: credentials or the network have changed."""
    for bucket in buckets or (*_opened, *_answered):
        _opened.pop(bucket, None)
        _answered.discard(bucket)


# Before pyarrow's own, which ends S3: a filesystem that outlives it aborts one process in ten ("terminate called", pyarrow 25).
atexit.register(forget)


def bucket_of(url: str) -> str:
    """`scheme://bucket` of an object."""
    return "/".join(url.split("/")[:3])


def opened(url: str) -> tuple[arrow.FileSystem, str]:
    """The filesystem of an object, and the object's name in it."""
    bucket = bucket_of(url)
    if (known := _opened.get(bucket)) is None:
        # Not fsspec's own instance, which would keep the credentials and the endpoint that it began with.
        found = fsspec.core.url_to_fs(bucket, skip_instance_cache=True)[0]
        # Buckets through pyarrow, whose streams and errors are known here; the rest through pyarrow's own adapter.
        inner = getattr(found, "fs", None)
        made = inner if isinstance(inner, arrow.FileSystem) else arrow.PyFileSystem(arrow.FSSpecHandler(found))
        known = _opened.setdefault(bucket, made)
    return known, url.partition("://")[2].rstrip("/")


def ask(url: str, what: str, request: Callable[[arrow.FileSystem, str], T]) -> T:
    """The answer to a request, repeated with growing pauses while the store may recover.

    Args:
        url: The object, or a prefix of objects.
        what: What is refused, for the message: `cannot be written`.
        request: Called with the filesystem and the name.

    Raises:
        FileNotFoundError: If the object does not exist.
        ArtifactError: If the store refuses, or has not recovered within `PATIENCE_S`.
    """
    bucket, started, wait = bucket_of(url), time.monotonic(), 0.5
    while True:
        try:
            answer = request(*opened(url))
            _answered.add(bucket)
            return answer
        except FileNotFoundError:
            _answered.add(bucket)
            raise
        except (OSError, ImportError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
            end = started + (PATIENCE_S if bucket in _answered else FIRST_PATIENCE_S)
            if _FINAL.search(problem) or time.monotonic() + wait > end or not isinstance(error, OSError):
                forget(bucket)  # the next command of this process may have other credentials
                raise refused(url, what, problem) from error
            logger.info("%s: %s; asking again in %.1f s", url, problem, wait)
            time.sleep(wait * random.uniform(0.5, 1.0))  # many nodes fail together, and should not ask again together
            wait = min(2 * wait, _LONGEST_WAIT_S)


def get_bytes(filesystem: arrow.FileSystem, name: str) -> bytes:
    """The content of a small object."""
    with filesystem.open_input_stream(name, compression=None) as source:
        return bytes(source.read())


def put_bytes(filesystem: arrow.FileSystem, name: str, data: bytes) -> None:
    """Write a small object."""
    put(filesystem, name, io.BytesIO(data))


def put(filesystem: arrow.FileSystem, name: str, source: BinaryIO) -> None:
    """Write an object, whole or not at all.

    Arrow closes a stream that is given up, and so makes an object of the part that was sent: an interrupt therefore waits until
    all is sent, and if the source cannot be read to its end, the object is deleted.
    """

    def send() -> None:
        target = filesystem.open_output_stream(name, compression=None)
        # Not in a `with`: an error of the stream itself is remembered, and then no object is made.
        while chunk := _read(source, target):
            target.write(chunk)
        target.close()

    # Interrupts arrive in the main thread only, and leaving the pool waits for its thread.
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(send).result()
        except _UnreadError:
            filesystem.delete_file(name)
            raise


def _read(source: BinaryIO, target: Any) -> bytes:
    try:
        return source.read(CHUNK)
    except OSError as error:
        target.close()
        raise _UnreadError(str(error)) from error


class _UnreadError(OSError):
    """The file that is sent cannot be read; what was sent of it is an object now."""


def refused(url: str, what: str, problem: str) -> ArtifactError:
    """The error for an object that the store refuses."""
    renew = "the credentials have expired: renew them, then re-run the same command"
    fix = renew if _EXPIRED.search(problem) else fix_of(problem)
    return ArtifactError(f"{url}: {what}: {' '.join(problem.split())[:300]}", fix=fix)
