"""From a path as written in the study file to a chain of links that can be read, or an error that says what to write instead.

A path is local, a URL, or a chain `MEMBER::ARCHIVE` as fsspec writes it. Nothing is opened here, except that a local path which
exists as it stands is never taken for anything else.

Guarantee: a scheme that is not read is refused by name, before any work.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import DataError

_CHAIN = re.compile(r"::(?![^\[]*\])")
"""The joint of two links; not the `::` of an IPv6 host, which is in brackets."""
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+._-]*)://")
_ODD_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+._-]+):")
_LOCAL = ("file", "local")
_CACHES = ("simplecache", "filecache", "blockcache", "cached")
_ARCHIVES = ("zip", "tar")
_BUCKETS = ("s3", "s3a", "gs", "gcs")
_READ = (
    *("http", "https", "s3", "s3a", "gs", "gcs", "hf", "github", "ftp", "sftp", "ssh", "abfs", "abfss", "az", "hdfs"),
    *("webhdfs", "smb", "oss", "obs", "cos", "tos", "dropbox", "gdrive", "box", "oci", "lakefs"),
)
_REFUSED = {
    "memory": "files in memory are seen by one process only; write them to a folder that every node sees",
    "data": "write the text to a file and give its path",
    "reference": "give the files that the reference names",
    "dask": "give the path that the Dask workers read",
    "generic": "give the path of the filesystem itself",
    "git": "check the repository out, and give the folder",
    "libarchive": "give the archive itself if it is tar or zip, else unpack it and give the folder",
    "adl": "this service has ended; write abfs:// for its successor",
    "dbfs": "give the path under which it is mounted, /dbfs/...",
    "arrow_hdfs": "write hdfs://",
    "tosfs": "write tos://",
    "ocilake": "write oci://",
    **dict.fromkeys(("asynclocal", "asyncwrapper", "async_wrapper", "dir"), "give the path alone"),
    **dict.fromkeys(
        ("jupyter", "jlab", "dvc", "gist", "pyscript", "root", "wandb", "webdav"), "download the files and give their folder"
    ),
}


class Address(NamedTuple):
    """A path in parts: the first link names files, the rest are the archives that hold them."""

    links: tuple[str, ...]

    @property
    def scheme(self) -> str:
        """The scheme of the first link; empty for a local path."""
        found = _SCHEME.match(self.links[0])
        return found[1].lower() if found else ""

    @property
    def is_local(self) -> bool:
        """Whether the path is on a local filesystem and not inside an archive."""
        return len(self.links) == 1 and not self.scheme

    @property
    def is_http(self) -> bool:
        """Whether the path is a single `http(s)://` URL."""
        return self.scheme in ("http", "https")

    @property
    def uri(self) -> str:
        """The path, as fsspec reads it."""
        return "::".join(self.links)


def split_chain(uri: str) -> list[str]:
    """The links of a chained path."""
    return _CHAIN.split(uri)


def shown(uri: str) -> str:
    """A path for messages: URLs without user, password, query and fragment, which may hold secrets."""
    return "::".join(_shown(link) for link in split_chain(uri))


def _shown(link: str) -> str:
    if not _SCHEME.match(link) or link.startswith(_ARCHIVES):
        return link
    try:
        parts = urlsplit(link)
    except ValueError:
        return link.split("?")[0]
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}{query}"


def parse_address(uri: str) -> Address:
    """Take a path apart.

    Raises:
        DataError: If its scheme is not read, or an archive is missing.
    """
    if os.path.lexists(expanded := os.path.expanduser(uri)):
        return Address((expanded,))
    links = [link for link in split_chain(resolve_package(uri)) if (_SCHEME.sub("", link) and link) or "://" in link]
    links = [_plain(link) for link in links if link.removesuffix("://").split("://")[0] not in _CACHES]
    if not links or not all(links):
        raise DataError(f"{shown(uri)}: names no file", fix="give a path, a pattern, a folder or a URL")
    for place, link in enumerate(links):
        _check_link(link, uri, is_last=place == len(links) - 1)
    return Address(tuple(links))


def odd_scheme(uri: str) -> str | None:
    """What a path that names nothing begins with, if that looks like the scheme of a URL: `memory:`, `s3:/`."""
    found = _ODD_SCHEME.match(uri)
    return found[0] if found else None


def _plain(link: str) -> str:
    link = _SCHEME.sub(lambda found: found[0].lower(), link)
    for scheme in _LOCAL:
        if link.startswith(f"{scheme}://"):
            link = link[len(scheme) + 3 :]
    return link if _SCHEME.match(link) else os.path.expanduser(link)


def _check_link(link: str, uri: str, *, is_last: bool) -> None:
    found = _SCHEME.match(link)
    scheme = found[1].lower() if found else "data" if link.startswith("data:") else ""
    if scheme in _REFUSED:
        raise DataError(f"{shown(uri)}: {scheme}: is not read", fix=_REFUSED[scheme])
    if scheme in _ARCHIVES:
        if is_last:
            fix = f"write {scheme}://MEMBER::ARCHIVE, or the path of the archive itself to read all its members"
            raise DataError(f"{shown(uri)}: the archive is missing", fix=fix)
        return
    if not is_last:
        fix = "chains are zip://MEMBER::ARCHIVE and tar://MEMBER::ARCHIVE"
        raise DataError(f"{shown(uri)}: {link!r} is not an archive member", fix=fix)
    if scheme and scheme not in _READ:
        fix = f"local paths, package://, zip://, tar://, {'://, '.join(_READ[:9])}:// and more are read: docs/data.md"
        raise DataError(f"{shown(uri)}: {scheme}:// is not read", fix=fix)
    if scheme in ("http", "https"):
        _check_url(link, uri)
    if scheme in _BUCKETS and not link.split("://", 1)[1].strip("/"):
        raise DataError(f"{shown(uri)}: names no bucket", fix=f"write {scheme}://BUCKET/PATH")


def _check_url(link: str, uri: str) -> None:
    try:
        parts = urlsplit(link)
        host = parts.hostname and (parts.port, parts.hostname)
    except ValueError as error:
        raise DataError(f"{shown(uri)}: not a URL: {error}", fix="check the URL") from error
    if not host:
        raise DataError(f"{shown(uri)}: has no host", fix="write http://HOST/PATH")
    if "*" in parts.path:
        raise DataError(
            f"{shown(uri)}: a web server cannot be searched by pattern",
            fix="list the URLs one by one under `path`, as a YAML list",
        )
