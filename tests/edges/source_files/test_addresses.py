"""Every form of path is read, or refused with what to write instead."""

import pytest

from cpt_ray.edges.source_files import list_files, shown
from cpt_ray.edges.source_files.addresses import parse_address, split_chain
from cpt_ray.errors import DataError

REFUSED = {
    "memory://a/b.txt": "memory: is not read",
    "data:text/plain,hello": "data: is not read",
    "data:,": "data: is not read",
    "reference://": "reference: is not read",
    "reference::/data/refs.json": "'reference' is not an archive member",
    "dask://a": "dask: is not read",
    "generic://a": "generic: is not read",
    "libarchive://a.txt::/data/a.7z": "libarchive: is not read",
    "git://repo/a.txt": "git: is not read",
    "gopher://a/b": "gopher:// is not read",
    "zip://a.txt": "the archive is missing",
    "tar://": "the archive is missing",
    "zip://::": "the archive is missing",
    "s3://b/a.txt::/data/a.zip": "is not an archive member",
    "http://h/*.txt": "a web server cannot be searched by pattern",
    "https:///a.txt": "has no host",
    "gs://": "names no bucket",
    "s3:///": "names no bucket",
    "http://[::1/a.txt": "not a URL|is not an archive member",
    "http://h:port/a.txt": "not a URL",
    "simplecache::": "names no file",
    "::": "names no file",
}


@pytest.mark.parametrize("uri", REFUSED)
def test_what_is_not_read_is_refused_by_name_with_a_fix(uri):
    with pytest.raises(DataError, match=REFUSED[uri]) as caught:
        list_files(uri)
    assert len(caught.value.fix) > 10


@pytest.mark.parametrize(
    "uri", ["sftp://h/a.txt", "abfs://c/a.txt", "smb://h/s/a.txt", "hf://", "hf://x", "github://a", "zip://a.txt::zip://"]
)
def test_a_scheme_that_lacks_its_package_or_a_part_is_an_error_and_no_traceback(uri):
    with pytest.raises(DataError):
        list_files(uri)


def test_chains_are_split_but_not_at_the_host_of_ipv6():
    assert split_chain("zip://m.txt::http://[::1]:80/a.zip") == ["zip://m.txt", "http://[::1]:80/a.zip"]
    assert split_chain("zip://m[1].txt::/run [v2]/a.zip") == ["zip://m[1].txt", "/run [v2]/a.zip"]
    assert parse_address("simplecache::s3://b/a.txt").links == ("s3://b/a.txt",)
    assert parse_address("filecache::zip://m::file:///a.zip").links == ("zip://m", "/a.zip")


def test_messages_show_no_user_password_or_query():
    assert shown("zip://m::https://me:pw@h/a.zip?sig=x#y") == "zip://m::https://h/a.zip?..."
    assert shown("/data/a?b#c.txt") == "/data/a?b#c.txt"
