"""Filesystems that fsspec reaches through this project: buckets through pyarrow, which is a dependency anyway, HTTP, archives.

pyarrow reads the usual `AWS_*` variables. Importing this module registers them.
"""

import io
from typing import Any

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper
from fsspec.implementations.tar import TarFileSystem
from fsspec.implementations.zip import ZipFileSystem
from pyarrow import fs as arrow_filesystems

from cpt_ray.edges.source_files.archives import StrictHeader, check_beginning
from cpt_ray.edges.source_files.http import HttpFileSystem

_BUFFER = 4 << 20


class _ArrowStore(ArrowFSWrapper):  # type: ignore[misc]
    """A bucket, through pyarrow. One instance per bucket, because each bucket has its own region."""

    scheme = ""
    settings = ""

    def __init__(self, bucket: str, **options: Any) -> None:
        address = f"{self.scheme}://{bucket}{self.settings}"
        super().__init__(arrow_filesystems.FileSystem.from_uri(address)[0], **options)

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
    scheme = "s3"


class _Google(_ArrowStore):
    scheme = "gs"
    settings = "?retry_limit_seconds=30"  # the default is a quarter of an hour, also for a name that does not resolve


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
