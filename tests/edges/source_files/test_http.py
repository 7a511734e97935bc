"""Sources behind a web server: one that works, and servers that cut, refuse, ask to wait or lack what others have."""

import gzip
import time
import zipfile

import pytest

from cpt_ray.data.read import Rejected, plan_reads, read_documents
from cpt_ray.edges.source_files import http, list_source_files, open_source, source_version
from cpt_ray.errors import DataError
from tests.data.read.test_formats import source
from tests.edges.source_files.web_server import LINES, Server, cut, rest, status, whole

pytestmark = pytest.mark.accept(inputs=3)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http, "BACKOFF_S", 0.001)
    made = Server()
    yield made
    made.close()


def content(url):
    with open_source(url) as stream:
        return stream.read()


def texts(url, file_format, **changes):
    config = source(url, file_format, **changes)
    items = [item for task in plan_reads(config, 1000) for item in read_documents(task, config)]
    assert not any(isinstance(item, Rejected) for item in items)
    return [item.text for item in items]


def test_a_url_is_read_with_and_without_a_query_and_by_its_extension(server):
    server.steps = {"/a b.jsonl": [whole()], "/a.jsonl": [whole()], "/b.jsonl.gz": [whole(gzip.compress(LINES))]}
    for path in ("a.jsonl", "a.jsonl?token=s3cret&x=.csv", "b.jsonl.gz", "b.jsonl.gz?x=1"):
        assert len(texts(f"{server.url}/{path}", "auto")) == 5000, path
    (file,) = list_source_files(f"{server.url}/a.jsonl")
    assert file == (f"{server.url}/a.jsonl", len(LINES), '"v1"')
    assert source_version(file.path) == '"v1"'


def test_a_server_without_length_tag_or_ranges_will_do(server):
    server.steps = {"/a.jsonl": [whole(etag=None, length=False)]}
    (file,) = list_source_files(f"{server.url}/a.jsonl")
    assert file[1:] == (0, "")
    assert len(texts(f"{server.url}/a.jsonl", "jsonl")) == 5000


def test_a_connection_that_breaks_off_is_taken_up_again_where_it_was(server):
    server.steps = {"/a.jsonl": [cut(), rest()]}
    assert content(f"{server.url}/a.jsonl") == LINES
    assert [wanted for _, wanted in server.seen] == [None, "bytes=50000-"]
    server.steps = {"/a.jsonl": [cut(), whole(LINES.upper(), etag='"v2"')]}  # changed meanwhile: begun anew
    assert content(f"{server.url}/a.jsonl") == LINES.upper()
    server.steps = {"/a.jsonl": [cut(etag=None), whole(etag=None)]}
    server.seen.clear()
    assert content(f"{server.url}/a.jsonl") == LINES
    assert [wanted for _, wanted in server.seen] == [None, None]


def test_a_connection_that_always_breaks_off_is_an_error_that_names_the_url_without_its_secrets(server):
    server.steps = {"/a.jsonl": [cut()]}
    with pytest.raises(
        DataError, match=r"/a\.jsonl\?\.\.\.: the connection broke off 4 times: ProtocolError after 50000 bytes"
    ) as caught:
        content(f"{server.url}/a.jsonl?signature=s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("code", [401, 403])
def test_what_is_forbidden_is_refused_at_once(server, code):
    server.steps = {"/a.jsonl": [status(code)]}
    with pytest.raises(
        DataError, match=rf"/a\.jsonl: the server answers {code} .*\n  fix: (put credentials|check that the URL)"
    ):
        list_source_files(f"{server.url}/a.jsonl")
    assert len(server.seen) == 1


def test_what_is_missing_is_no_such_file(server):
    server.steps = {"/a.jsonl": [status(404)]}
    with pytest.raises(DataError, match=r"/a\.jsonl: no such file"):
        list_source_files(f"{server.url}/a.jsonl")


def test_a_busy_server_is_asked_again_after_the_time_it_names(server, monkeypatch):
    waits = []
    monkeypatch.setattr(http.time, "sleep", waits.append)
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 10))
    server.steps = {"/a.jsonl": [status(429, Retry_After="7"), status(503, Retry_After=later), status(500), whole()]}
    assert list_source_files(f"{server.url}/a.jsonl")[0].size_bytes == len(LINES)
    assert (waits[0], len(waits)) == (7.0, 3)
    assert 5 < waits[1] <= 10


@pytest.mark.parametrize(("headers", "asked"), [({}, 4), ({"Retry_After": "3600"}, 1)], ids=["bounded tries", "bounded wait"])
def test_a_server_that_stays_busy_is_given_up(server, headers, asked):
    server.steps = {"/a.jsonl": [status(429, **headers)]}
    with pytest.raises(DataError, match=r"/a\.jsonl: the server answers 429 "):
        list_source_files(f"{server.url}/a.jsonl")
    assert len(server.seen) == asked


def test_a_member_of_an_archive_on_the_web_and_the_whole_archive(server, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.txt", "one")
        archive.writestr("x/b.txt", "two")
    server.steps = {"/a.zip": [whole((tmp_path / "a.zip").read_bytes())]}
    assert texts(f"zip://x/b.txt::{server.url}/a.zip", "text") == ["two"]
    assert texts(f"zip://x/*.txt::{server.url}/a.zip", "text") == ["one", "two"]
    assert texts(f"{server.url}/a.zip", "auto") == ["one", "two"]
    assert texts(f"simplecache::{server.url}/a.zip", "auto") == ["one", "two"]


def test_a_file_that_changes_on_the_server_while_it_is_read_is_named(server):
    server.steps = {"/a.jsonl": [whole(), whole(), whole(), whole(etag='"v2"')]}
    with pytest.raises(DataError, match=r"a\.jsonl: changed while being read: version \"v1\", now \"v2\""):
        texts(f"{server.url}/a.jsonl", "jsonl")


def test_a_server_that_is_not_there_is_named():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "BACKOFF_S", 0.001)
        with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/a\.txt: cannot be reached: ConnectionError"):
            list_source_files("http://user:s3cret@127.0.0.1:9/a.txt")
