"""Filesystems that fsspec reaches through this project: buckets through pyarrow, which is a dependency anyway, HTTP, archives.

pyarrow reads the usual `AWS_*` variables. Importing this module registers them. A store that does not answer costs a connection
or a request a few seconds, and few tries: pyarrow's own limits add up to minutes, for Google to a quarter of an hour.
"""

import io
import os
from datetime import timedelta
from typing import Any

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper
from fsspec.implementations.tar import TarFileSystem
from fsspec.implementations.zip import ZipFileSystem
from pyarrow import fs as arrow_filesystems

from cpt_ray.edges.source_files.archives import StrictHeader, check_beginning
from cpt_ray.edges.source_files.http import HttpFileSystem

_BUFFER = 4 << 20
_CONNECT_S, _REQUEST_S, _ATTEMPTS, _RETRY_S = 5, 20, 3, 10


class _ArrowStore(ArrowFSWrapper):  # type: ignore[misc]
    """A bucket, through pyarrow. One instance per bucket, because each bucket has its own region."""

    def __init__(self, bucket: str, **options: Any) -> None:
        super().__init__(self._connect(bucket), **options)

    @staticmethod
    def _connect(bucket: str) -> arrow_filesystems.FileSystem:
        raise NotImplementedError

    @classmethod
    def _get_kwargs_from_urls(cls, path: str) -> dict[str, str]:
        return {"bucket": cls._strip_protocol(path).split("/")[0]}

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BufferedReader:
        if mode != "rb":
            raise ValueError("raw files are only read")
        # Unbuffered, pyarrow sends a request every few bytes of `readline`: 40 lines from loopback took minutes.
        return io.BufferedReader(self.fs.open_input_file(path), _BUFFER)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).split("://", 1)[-1].strip("/")


class _S3(_ArrowStore):
    @staticmethod
    def _connect(bucket: str) -> arrow_filesystems.FileSystem:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        scheme, _, host = endpoint.rpartition("://")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region is None and not endpoint:
            region = arrow_filesystems.resolve_s3_region(bucket)
        return arrow_filesystems.S3FileSystem(
            endpoint_override=host.rstrip("/") or None,
            scheme=scheme or "https",
            region=region,
            connect_timeout=_CONNECT_S,
            request_timeout=_REQUEST_S,
            allow_delayed_open=True,  # what fits into one request is one: not a start, a part and an end
            retry_strategy=arrow_filesystems.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        )


class _Google(_ArrowStore):
    @staticmethod
    def _connect(_bucket: str) -> arrow_filesystems.FileSystem:
        # Not from_uri, which raises no ImportError where pyarrow was built without it.
        return arrow_filesystems.GcsFileSystem(
            anonymous="CLOUD_STORAGE_EMULATOR_ENDPOINT" in os.environ,  # read by Google's client; an emulator has no accounts
            retry_time_limit=timedelta(seconds=_RETRY_S),
        )


class _Tar(TarFileSystem):  # type: ignore[misc]
    """A tar of which every member is listed, or an error."""

    def _index(self) -> None:
        self.tar.tarinfo, self.tar.ignore_zeros = StrictHeader, True
        super()._index()


class _Zip(ZipFileSystem):  # type: ignore[misc]
    """A zip of which every member is listed, or an error."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        check_beginning(self.zip)


def register() -> None:
    """Make fsspec use these filesystems, in this process."""
    stores = {"s3": _S3, "s3a": _S3, "gs": _Google, "gcs": _Google, "tar": _Tar, "zip": _Zip}
    for scheme, store in {**stores, "http": HttpFileSystem, "https": HttpFileSystem}.items():
        fsspec.register_implementation(scheme, store, clobber=True)


register()
