"""Remote files on a real S3 server in a process of its own, and on hosts that do not answer: read, or refused plainly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests
from fsspec.registry import known_implementations
from pyarrow import fs as arrow_filesystems

from cpt_ray.edges.source_files import answers, http, list_source_files, open_source, stores
from cpt_ray.edges.source_files.answers import first_answer
from cpt_ray.errors import DataError

pytestmark = pytest.mark.accept(inputs=3)

SERVER = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server that lets in whom its own IAM service knows."""
    port = free_port()
    variables = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "1000000"}
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], env=variables, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The server with one file in one bucket, and no credentials in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"REGION": "us-east-1", "ENDPOINT_URL": server, "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    requests.post(f"{server}/moto-api/reset", timeout=60)
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "endpoint_url": server, "region_name": "us-east-1"}
    client = boto3.client("s3", **keys)
    client.create_bucket(Bucket="texts")
    client.put_object(Bucket="texts", Key="in/a.txt", Body=b"hello")
    iam = boto3.client("iam", **keys)
    iam.create_user(UserName="reader")
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    iam.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    requests.post(f"{server}/moto-api/reset-auth", data="0", timeout=60)
    stores._S3.clear_instance_cache()
    yield server
    requests.post(f"{server}/moto-api/reset-auth", data="1000000", timeout=60)
    stores._S3.clear_instance_cache()


def test_a_file_a_folder_and_a_pattern_are_read(store: str) -> None:
    for uri in ("s3://texts/in/a.txt", "s3://texts/in", "s3://texts/*/*.txt", "S3://texts/in/a.txt"):
        (file,) = list_source_files(uri)
        assert (file.path, file.size_bytes) == ("s3://texts/in/a.txt", 5)
        with open_source(file.path) as stream:
            assert stream.read() == b"hello"


@pytest.mark.parametrize("uri", ["s3://nowhere/a.txt", "s3://nowhere/*.txt", "s3://texts/b.txt", "s3://texts/in/*.md"])
def test_a_missing_bucket_or_key_is_said(store: str, uri: str) -> None:
    with pytest.raises(DataError, match="no such file") as caught:
        list_source_files(uri)
    assert caught.value.fix == "check the path or glob of this source; its bucket or host may not be there either"


@pytest.mark.parametrize("secret", ["wrong", None])
@pytest.mark.parametrize("uri", ["s3://texts/in/a.txt", "s3://texts/in/*.txt"])
def test_wrong_and_missing_credentials_are_said(
    store: str, uri: str, secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    else:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(DataError, match=r"cannot be listed: .*AWS Error") as caught:
        list_source_files(uri)
    wanted = (
        "the server refuses access: check the credentials and their rights" if secret else "there are no credentials: set AWS_"
    )
    assert caught.value.fix.startswith(wanted)


@pytest.fixture
def nobody_at_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No credentials for Google, on a machine that is none of Google's."""
    monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setattr(stores, "_RETRY_S", 1)
    stores._Google.clear_instance_cache()
    yield
    stores._Google.clear_instance_cache()


def test_missing_credentials_for_google_are_said(nobody_at_google: None) -> None:
    with pytest.raises(DataError, match=r"cannot be listed: .*OAuth2 access token") as caught:
        list_source_files("gs://texts/in/a.txt")
    assert caught.value.fix.startswith(
        "there are no credentials for Google's storage: gcloud auth application-default login, or"
    )


def test_a_pyarrow_without_googles_store_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    # As pyarrow marks what it was built without.
    monkeypatch.delattr(arrow_filesystems, "GcsFileSystem")
    monkeypatch.setattr(arrow_filesystems, "_not_imported", ["GcsFileSystem"])
    stores._Google.clear_instance_cache()
    with pytest.raises(DataError, match=r"cannot be listed: ImportError: .*not built with support") as caught:
        list_source_files("gs://texts/in/a.txt")
    assert caught.value.fix == "pip install --force-reinstall --no-deps pyarrow, on every node: its wheels can read gs://"


@pytest.fixture
def silent_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that takes connections and never answers, with a limit of a second instead of fifteen."""
    monkeypatch.setattr(answers, "SILENCE_S", 1.0)
    monkeypatch.setattr(http, "SILENCE_S", 1.0)
    monkeypatch.setattr(http, "_TIMEOUT_S", (1, 1))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield int(listening.getsockname()[1])


@pytest.mark.parametrize("uri", ["s3://texts/*.txt", "ftp://127.0.0.1:{}/a.txt", "webhdfs://127.0.0.1:{}/a.txt"])
def test_a_server_that_does_not_answer_is_given_up(silent_port: int, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent_port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    stores._S3.clear_instance_cache()
    with pytest.raises(DataError, match=r"cannot be listed: TimeoutError: does not answer within 1 s") as caught:
        list_source_files(uri.format(silent_port))
    assert caught.value.fix == "check the host and the network, or try again later"
    stores._S3.clear_instance_cache()


def test_a_web_server_that_does_not_answer_is_asked_once(silent_port: int) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+/a\.txt: does not answer within 1 s"):
        list_source_files(f"http://127.0.0.1:{silent_port}/a.txt")


def test_an_answer_comes_through_whether_it_is_a_value_or_an_error() -> None:
    assert first_answer(lambda: 5) == 5
    with pytest.raises(KeyError, match="x"):
        first_answer(lambda: {}["x"])


LEFT = {"file", "local", "memory", "data", "zip", "tar", "simplecache", "filecache", "blockcache", "cached", "http", "https"}
NEEDS_NETWORK = {"gs", "gcs", "hf", "github", "hdfs"}


@pytest.mark.parametrize("scheme", sorted(set(known_implementations) - LEFT - NEEDS_NETWORK))
def test_every_scheme_of_fsspec_is_read_or_refused_with_a_fix(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    stores._S3.clear_instance_cache()
    with pytest.raises(DataError, match=r"is not read|cannot be listed") as caught:
        list_source_files(f"{scheme}://127.0.0.1:9/x/a.txt")
    assert caught.value.fix != answers._OTHER
    stores._S3.clear_instance_cache()


@pytest.mark.parametrize("uri", ["memory:/a.txt", "s3:/bucket/a.txt", "jar:file:/a.jar!/b", "dbfs:/a.txt"])
def test_half_a_scheme_is_said(uri: str) -> None:
    with pytest.raises(DataError, match="no such file") as caught:
        list_source_files(uri)
    scheme = uri.split(":")[0]
    assert caught.value.fix == f"if {scheme}: is meant as a scheme, write {scheme}://; what is read is in docs/data.md"
