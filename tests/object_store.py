"""A real S3 server for tests, behind a proxy that can fail as stores do, and mirrors that no other process sees."""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cpt_ray.edges.store import opening
from cpt_ray.edges.store.addresses import CACHE

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_DEFAULT_REGION": "us-east-1"}
_CHECKED = re.compile("checksum|trailer|content-md5|content-sha256|decoded-content-length|content-encoding")
_ERRORS = {
    "503": (503, "ServiceUnavailable", "Please reduce your request rate"),
    "throttled": (503, "SlowDown", "Please reduce your request rate."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
    "denied": (403, "AccessDenied", "Access Denied"),
    "wrong key": (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
}


@dataclass
class ObjectStore:
    """A bucket named `studies`, and what the proxy before it does to requests."""

    endpoint: str
    client: Any
    failing: dict[str, str] = field(default_factory=dict)
    """By method, or `*`: `cut`, `framed` (the frame of an upload is kept as content), `unconditional`
    (the conditions of a write are ignored), or a key of `_ERRORS`."""
    left: float = float("inf")
    """Requests that fail before it recovers."""
    failed: int = 0
    """Requests that have failed."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    read_bytes: int = 0
    """Of the objects and listings that were answered with."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, kind: str, *, method: str = "*", times: float = float("inf")) -> None:
        """Fail the next requests, of one method or all."""
        self.failing, self.left, self.failed = {method: kind}, times, 0

    def recover(self) -> None:
        """Answer again."""
        self.failing = {}

    def fault(self, method: str) -> str | None:
        """How a request fails, if it does."""
        with self.lock:
            kind = self.failing.get(method) or self.failing.get("*")
            if kind is None or self.left <= 0:
                return None
            self.left -= 1
            self.failed += 1
            return kind

    def keys(self, prefix: str = "") -> list[str]:
        """The keys in the bucket, without the markers of folders."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="studies", Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", []) if not one["Key"].endswith("/")]

    def get(self, key: str) -> bytes:
        """The content of an object."""
        return self.client.get_object(Bucket="studies", Key=key)["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket="studies", Key=key, Body=data)


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore
    target: tuple[str, int]

    def answer(self) -> None:
        body = self._body()
        self.store.seen.append((self.command, self.path))
        fault = self.store.fault(self.command)
        if fault == "cut":
            self.connection.close()
            self.close_connection = True
            return
        sent = {name: value for name, value in self.headers.items() if name.lower() not in ("transfer-encoding", "expect")}
        if fault == "unconditional":
            sent = {name: value for name, value in sent.items() if name.lower() not in ("if-match", "if-none-match")}
        elif fault == "framed":
            body = b"20;chunk-signature=0\r\n" + body
            sent = {name: value for name, value in sent.items() if not _CHECKED.search(name.lower())}
        elif fault is not None:
            status, code, text = _ERRORS[fault]
            answer = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
            self._send(status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else answer)
            return
        inner = http.client.HTTPConnection(*self.target, timeout=60)
        inner.request(self.command, self.path, body, {**sent, "Content-Length": str(len(body))})
        answered = inner.getresponse()
        data = answered.read()
        with self.store.lock:
            self.store.read_bytes += len(data) * (self.command == "GET")
        dropped = ("transfer-encoding", "connection", "content-length")
        headers = [(name, value) for name, value in answered.getheaders() if name.lower() not in dropped]
        length = answered.getheader("Content-Length") if self.command == "HEAD" else None
        self._send(answered.status, headers, data, length)
        inner.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return body

    def _send(self, status: int, headers: list[tuple[str, str]], data: bytes, length: str | None = None) -> None:
        with contextlib.suppress(OSError):
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Start the server and the proxy; this process and its children find them through the usual variables.

    Not within another one: the variables hold one address.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    direct = boto3.client("s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="x", aws_secret_access_key="x")
    direct.create_bucket(Bucket="studies")
    handler = type("Proxy", (_Proxy,), {"target": (host, port)})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    store = handler.store = ObjectStore(f"http://127.0.0.1:{proxy.server_port}", direct)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": store.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}.items():
            environment.setenv(name, value)
        opening.forget()
        yield store
    opening.forget()
    proxy.shutdown()
    server.stop()


@contextlib.contextmanager
def node(folder: Path) -> Iterator[Path]:
    """Within, this process is a node whose mirrors are in `folder`."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(CACHE, str(folder))
        yield folder
