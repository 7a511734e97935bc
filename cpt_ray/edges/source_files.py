"""The door to raw text: list and open files on any filesystem, compressed or not, with a version that tracks changes.

Paths are fsspec's: local, `zip://member::archive`, `s3://`, `gs://`, `hf://` and whatever fsspec has a package for;
`package://` names files of an installed distribution. S3 and Google Cloud Storage go through pyarrow, which is a dependency
anyway and reads the usual `AWS_*` variables. gzip, bz2 and xz are decompressed by fsspec, zstd by pyarrow.

Guarantee: the same files are listed in the same order, and a file that changed between two listings has another size or
version.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
from fsspec.compression import register_compression
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs as arrow_filesystems

from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import DataError

_BUFFER = 4 << 20
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
_VERSIONS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "last_modified", "modified", "created")
_COMMIT = re.compile(r"^hf://[^:]+@[0-9a-f]{40}/")


class SourceFile(NamedTuple):
    """A raw file: path, size in bytes, and a version that its filesystem changes on every write.

    `version` is an ETag or a modification time; for a member of an archive that of the archive; empty if a filesystem has
    neither.
    """

    path: str
    size_bytes: int
    version: str


class _ArrowStore(ArrowFSWrapper):  # type: ignore[misc]
    """A bucket, through pyarrow. One instance per bucket, because each bucket has its own region."""

    scheme = ""

    def __init__(self, bucket: str, **options: Any) -> None:
        super().__init__(arrow_filesystems.FileSystem.from_uri(f"{self.scheme}://{bucket}")[0], **options)

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


def _unzstd(stream: Any, mode: str = "r", **_: Any) -> io.BufferedReader:
    if not mode.startswith("r"):
        raise ValueError("raw files are only read")
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd"), _BUFFER)


fsspec.register_implementation("s3", _S3, clobber=True)
fsspec.register_implementation("gs", _Google, clobber=True)
register_compression("zstd", _unzstd, "zst", force=True)


def list_source_files(uri: str) -> list[SourceFile]:
    """Expand a source glob to files, sorted by path. Paths of archives keep their `::` chain.

    Raises:
        DataError: If nothing matches, or the filesystem cannot be reached.
    """
    resolved = resolve_package(uri)
    try:
        filesystem, pattern = fsspec.core.url_to_fs(resolved)
        found = filesystem.glob(pattern, detail=True) if _is_glob(pattern) else {pattern: filesystem.info(pattern)}
    except FileNotFoundError:
        found = {}
    except (OSError, ImportError, ValueError) as error:
        raise DataError(
            f"{uri}: cannot be listed: {error}",
            fix="check the path, the credentials (environment variables such as AWS_ACCESS_KEY_ID) and the network; a scheme "
            "that needs an fsspec package needs it on every node",
        ) from error
    head, *chain = resolved.split("::")
    scheme = f"{head.split('://')[0]}://" if "://" in head else ""
    container = _version(_info(chain[-1])) if chain else None
    files = [
        SourceFile(
            path="::".join([f"{scheme}{path.lstrip('/') if chain else path}", *chain]),
            size_bytes=int(info["size"] or 0),
            version=container or _version(info),
        )
        for path, info in found.items()
        if info["type"] == "file"
    ]
    if not files:
        raise DataError(
            f"{uri}: no such file", fix="check the path or glob of this source; relative paths start at the working directory"
        )
    return sorted(files)


def source_version(path: str) -> str | None:
    """The current version of a listed file; None if it cannot change (a commit on the hub).

    Raises:
        FileNotFoundError: If the file is gone.
    """
    if _COMMIT.match(path):
        return None
    last = path.split("::")[-1]
    if is_local(last):
        # fsspec takes a third of a millisecond per file, and a corpus can have a hundred thousand small files.
        return _version({"mtime": os.stat(last).st_mtime})
    return _version(_info(last))


def is_local(path: str) -> bool:
    """Whether a listed path is a plain file on a local filesystem."""
    return "://" not in path and "::" not in path


@contextlib.contextmanager
def open_source(path: str) -> Iterator[Any]:
    """Open a file listed by `list_source_files` for reading bytes; compressed files are decompressed, by suffix."""
    if is_local(path) and Path(path).suffix not in COMPRESSED:
        with open(path, "rb") as plain:
            yield plain
        return
    compression = "infer" if path.split("::")[0].endswith(COMPRESSED) else None
    with fsspec.open(path, mode="rb", compression=compression) as stream:
        yield stream


def _info(path: str) -> Mapping[str, Any]:
    filesystem, inside = fsspec.core.url_to_fs(path)
    info: Mapping[str, Any] = filesystem.info(inside)
    return info


def _version(info: Mapping[str, Any]) -> str:
    value = next((info[key] for key in _VERSIONS if info.get(key) is not None), "")
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _is_glob(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")
