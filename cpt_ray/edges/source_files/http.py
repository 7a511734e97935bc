"""Files behind `http(s)://`: fetched whole into a temporary file, so that any server will do.

A server need not support ranges, HEAD, ETag or Content-Length. An answer of 408, 425, 429 or 5xx and a connection that breaks
off are retried a bounded number of times; a fetch that broke off goes on where it was if the server has ranges and an ETag.
`Retry-After` is honored up to 30 s. Proxies and `.netrc` are those of `requests`. Disk: the file, in the temporary folder.

Guarantee: a file of fewer bytes than the server announced is an error that names the URL.
"""

from __future__ import annotations

import email.utils
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from fsspec.spec import AbstractFileSystem

from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.source_files.addresses import shown
from cpt_ray.edges.source_files.answers import SILENCE_S
from cpt_ray.errors import DataError

ATTEMPTS = 4
BACKOFF_S = 0.5
LONGEST_WAIT_S = 30.0
_TIMEOUT_S = (5, SILENCE_S)
_CHUNK = 1 << 20
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "cpt-ray"}


class HttpFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The part of fsspec's interface that reading needs; a path is the whole URL."""

    protocol = ("http", "https")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size and version as the server's headers give them; nothing is fetched."""
        with _answer(path, {}) as response:
            length = response.headers.get("Content-Length", "")
            version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            return {"name": path, "type": "file", "size": int(length) if length.isdigit() else 0, "ETag": version}

    def isdir(self, path: str) -> bool:  # noqa: ARG002
        """A web server has no folders."""
        return False

    def _open(self, path: str, mode: str = "rb", **_: Any) -> IO[bytes]:
        if mode != "rb":
            raise ValueError("raw files are only read")
        out = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
        try:
            _fetch(path, out)
        except BaseException:
            out.close()
            raise
        out.seek(0)
        return out


def _fetch(url: str, out: IO[bytes]) -> None:
    import urllib3

    have, tag, problem = 0, None, ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_S * 2 ** (attempt - 1))
        wanted: dict[str, str] = {"Range": f"bytes={have}-", "If-Range": tag} if have and tag else {}
        with _answer(url, wanted) as response:
            if response.status_code != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                have = 0
                out.seek(0)
                out.truncate()
            tag = None if response.headers.get("ETag", "W/").startswith("W/") else response.headers["ETag"]
            _check_encoding(url, response.headers.get("Content-Encoding", ""))
            chunks = response.raw.stream(_CHUNK, decode_content=False)
            try:
                while chunk := next(chunks, b""):
                    out.write(chunk)
                    have += len(chunk)
            except urllib3.exceptions.HTTPError as error:  # urllib3 compares with Content-Length and the end of chunks
                problem = f"{type(error).__name__} after {have} bytes"
                continue
        return
    raise DataError(
        f"{shown(url)}: the connection broke off {ATTEMPTS} times: {problem}",
        fix="fetch the file by other means and give its path, or try again later",
    )


def _check_encoding(url: str, encoding: str) -> None:
    # gzip is undone like that of a `.gz` file: by its first bytes.
    if encoding.lower() not in ("", "identity", "gzip", "x-gzip"):
        raise DataError(
            f"{shown(url)}: the server sends Content-Encoding {encoding!r}, though asked for none",
            fix="fetch the file by other means and give its path",
        )


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[Any]:
    """The server's answer to a GET, its body not yet read."""
    with _retried(url, headers) as response:
        yield response


def _retried(url: str, headers: dict[str, str]) -> Any:
    with needed_for("an http(s) source"):
        import requests

    problem, silent_s = "", 0.0
    for attempt in range(ATTEMPTS):
        wait = BACKOFF_S * 2**attempt
        asked = time.monotonic()
        try:
            response = requests.get(url, headers={**_HEADERS, **headers}, stream=True, timeout=_TIMEOUT_S)
        except (requests.ConnectionError, requests.Timeout) as error:
            problem = f"cannot be reached: {_cause(error)}"
            silent_s += time.monotonic() - asked
            if silent_s >= SILENCE_S:
                raise DataError(
                    f"{shown(url)}: does not answer within {SILENCE_S:.0f} s",
                    fix="check the host and the network, or fetch the file by other means and give its path",
                ) from error
        except (requests.RequestException, ValueError) as error:
            raise DataError(f"{shown(url)}: cannot be fetched: {_cause(error)}", fix="check the URL") from error
        else:
            if response.status_code < 400:
                return response
            response.close()
            problem = f"the server answers {response.status_code} {response.reason}"
            if response.status_code not in _RETRIED:
                raise _refused(url, response.status_code, problem)
            wait = max(wait, _retry_after(response.headers.get("Retry-After"), time.time))
            if wait > LONGEST_WAIT_S:
                problem += f" and asks to wait {wait:.0f} s"
                break
        if attempt + 1 < ATTEMPTS:
            time.sleep(wait)
    raise DataError(
        f"{shown(url)}: {problem}, also when tried again", fix="try again later, or fetch the file and give its path"
    )


def _refused(url: str, status: int, problem: str) -> Exception:
    if status in (404, 410):
        return FileNotFoundError(shown(url))
    fixes = {401: "put credentials into .netrc", 403: "check that the URL is public, or its signature still valid"}
    return DataError(
        f"{shown(url)}: {problem}", fix=f"{fixes.get(status, 'check the URL')}, or fetch the file and give its path"
    )


def _cause(error: Exception) -> str:
    """The kind of an error and of its cause; the text would repeat the URL with its secrets."""
    names = [type(error).__name__]
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return ": ".join([*names, *([type(inner).__name__] if inner is not None else [])])


def _retry_after(value: str | None, now: Callable[[], float]) -> float:
    """Seconds to wait; the header holds seconds or a date."""
    if not value:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now())
    except ValueError:
        return 0.0
