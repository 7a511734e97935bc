"""Objects that change only if nobody else has changed them: what a lease needs, and pyarrow does not offer.

On S3 by `If-None-Match` and `If-Match` (boto3); a store that accepts the request and ignores the condition is found out. That
one and stores other than S3 answer reads right after writes, but have no condition here: of two drivers that start within
`edges.lease.STORE_SETTLE_S` the later write wins, and in one cluster a name is held besides (`edges.ray_runtime.sole_driver`).
"""

from __future__ import annotations

import functools
import logging
import os
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import fs as arrow

from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.store.addresses import url_of
from cpt_ray.edges.store.opening import ask, bucket_of, get_bytes, put_bytes
from cpt_ray.errors import ArtifactError

logger = logging.getLogger(__name__)

_S3 = ("s3", "s3a")
_PROBE = "lease.probe"
_BYTES_PROBE, _BYTES = "bytes.probe", bytes(range(32))
"""The same of every driver: another one may write it between the write and the read."""
_NEEDS = "study.root on S3"

_careless: set[str] = set()
"""Buckets that ignore the condition of a write, as this process has seen."""


class Version(NamedTuple):
    """An object as it was read."""

    data: bytes
    tag: str | None
    """What a conditional write names; None where the store has none."""
    age_s: float | None
    """Since it was written, by the clock of the store; None if it does not say."""


class ChangedError(Exception):
    """Somebody else has written the object."""


def read(path: Path) -> Version | None:
    """The object of a mirrored path, or None.

    Raises:
        ArtifactError: If the store refuses.
    """
    url = url_of(path)
    if url.split("://")[0] not in _S3:
        return _read_plainly(url)

    def get(_: arrow.FileSystem, name: str) -> Version | None:
        bucket, _, key = name.partition("/")
        client = _client()
        try:
            found = client.get_object(Bucket=bucket, Key=key)
        except client.exceptions.NoSuchKey:
            return None
        headers = found["ResponseMetadata"]["HTTPHeaders"]
        age = (parsedate_to_datetime(headers["date"]) - found["LastModified"]).total_seconds() if "date" in headers else None
        return Version(found["Body"].read(), found["ETag"] if heeds_conditions(path) else None, age)

    found: Version | None = ask(url, "cannot be read", _as_os_error(get))
    return found


def write(path: Path, data: bytes, before: Version | None) -> Version:
    """Write the object if it is still as it was read, or still not there if `before` is None.

    Raises:
        ChangedError: If it is not.
        ArtifactError: If the store refuses.
    """
    url = url_of(path)
    if not heeds_conditions(path):
        ask(url, "cannot be written", functools.partial(put_bytes, data=data))
        return Version(data, None, 0.0)

    def put(_: arrow.FileSystem, name: str) -> Version | None:
        bucket, _, key = name.partition("/")
        condition = {"IfNoneMatch": "*"} if before is None else {"IfMatch": before.tag}
        client = _client()
        try:
            done = client.put_object(Bucket=bucket, Key=key, Body=data, **condition)
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
                return None
            raise
        return Version(data, done["ETag"], 0.0)

    written: Version | None = ask(url, "cannot be written", _as_os_error(put))
    if written is None:
        raise ChangedError(url)
    return written


def heeds_conditions(path: Path) -> bool:
    """Whether the store of a mirrored path writes on condition, as far as `probe` has seen."""
    url = url_of(path)
    return url.split("://")[0] in _S3 and bucket_of(url) not in _careless


def probe(root: Path) -> None:
    """Find out whether a store heeds conditions, and refuse one that keeps other bytes than it was sent.

    Raises:
        ArtifactError: If bytes change. Stores that do not know how AWS's libraries frame an upload with its checksum keep the
            frame as content, and say that all is well.
    """
    _require_bytes(url_of(root / _BYTES_PROBE))
    one, bucket = root / _PROBE, bucket_of(url_of(root))
    _careless.discard(bucket)
    if not heeds_conditions(root):
        return
    try:
        write(one, b"", read(one))
        write(one, b"", None)
    except ChangedError:
        return  # as it should be, or another driver probes too
    logger.info("%s ignores the conditions of writes: the later of two drivers that start at once has the study", bucket)
    _careless.add(bucket)


def _require_bytes(url: str) -> None:
    ask(url, "cannot be written", functools.partial(put_bytes, data=_BYTES))
    kept = ask(url, "cannot be read", get_bytes)
    if kept != _BYTES:
        raise ArtifactError(
            f"{url}: the store keeps other bytes than it is sent: {len(kept)} for {len(_BYTES)}",
            fix="export AWS_REQUEST_CHECKSUM_CALCULATION=when_required on every node; if that does not help, use another store",
        )


@functools.lru_cache(maxsize=4)
def _client_of(_endpoint: str | None) -> Any:
    with needed_for(_NEEDS):
        import boto3
        from botocore.config import Config
    settings = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3, "mode": "standard"})
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return boto3.session.Session().client("s3", config=settings, region_name=region)


def _client() -> Any:
    return _client_of(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))


def _as_os_error(request: Any) -> Any:
    """The request, with the errors of boto3 as those of pyarrow's filesystems."""

    def asked(filesystem: arrow.FileSystem, name: str) -> Any:
        with needed_for(_NEEDS):
            from botocore.exceptions import BotoCoreError, ClientError
        try:
            return request(filesystem, name)
        except (BotoCoreError, ClientError) as error:
            _client_of.cache_clear()  # the next request may find renewed credentials
            raise OSError(f"AWS Error {type(error).__name__}: {error}") from error

    return asked


def _read_plainly(url: str) -> Version | None:
    try:
        return Version(ask(url, "cannot be read", get_bytes), None, None)
    except FileNotFoundError:
        return None
