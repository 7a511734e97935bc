"""Raw files on any filesystem: listed in order with a version, opened and unpacked."""

import gzip
import zipfile

import pytest

from cpt_ray.edges.source_files import list_source_files, open_source, would_list
from cpt_ray.errors import DataError


def listed(uri: str) -> list[tuple[str, int]]:
    return [file[:2] for file in list_source_files(uri)]


def test_a_glob_lists_files_sorted_with_sizes_and_leaves_folders_out(tmp_path):
    for name, size in [("b.txt", 2), ("a.txt", 1), ("c.md", 3)]:
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "d.txt").mkdir()
    assert listed(f"{tmp_path}/*.txt") == [(f"{tmp_path}/a.txt", 1), (f"{tmp_path}/b.txt", 2)]
    assert listed(f"{tmp_path}/**/*.md") == [(f"{tmp_path}/c.md", 3)]


def test_relative_globs_start_at_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert listed("*.txt") == [(f"{tmp_path}/a.txt", 1)]


@pytest.mark.parametrize("name", ["none.txt", "*.none"])
def test_a_source_without_files_is_named(tmp_path, name):
    with pytest.raises(DataError, match=r"no such file\n  fix: check the path or glob of this source"):
        list_source_files(f"{tmp_path}/{name}")


def test_listed_files_open_and_unpack(tmp_path):
    (tmp_path / "plain.txt").write_bytes(b"plain")
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"packed"))
    contents = []
    for path, *_ in list_source_files(f"{tmp_path}/*.txt*"):
        with open_source(path) as stream:
            contents.append(stream.read())
    assert contents == [b"packed", b"plain"]


def test_members_of_an_archive_are_listed_and_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("in/b.txt", b"bb")
        archive.writestr("in/a.txt", b"a")
        archive.writestr("c.csv", b"ccc")
    files = list_source_files(f"zip://in/*.txt::{tmp_path}/texts.zip")
    assert [size for _, size, _ in files] == [1, 2]
    with open_source(files[1].path) as stream:
        assert stream.read() == b"bb"
    (single,) = list_source_files(f"zip://c.csv::{tmp_path}/texts.zip")
    with open_source(single[0]) as stream:
        assert stream.read() == b"ccc"


def test_a_missing_member_of_an_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.txt", b"a")
    with pytest.raises(DataError, match="no such file"):
        list_source_files(f"zip://z.txt::{tmp_path}/texts.zip")


def test_memory_of_one_process_is_refused():
    with pytest.raises(
        DataError, match=r"memory://bucket/x/\*\.txt: memory: is not read\n  fix: files in memory are seen by one"
    ):
        list_source_files("memory://bucket/x/*.txt")


WRITTEN_LATER = [
    ("{here}/text", "{here}/text/runs/study", True),
    ("{here}/text", "{here}/text", True),
    ("{here}/link", "{here}/text/runs", True),
    ("{here}/text", "{here}/link/runs", True),
    ("{here}", "{here}/text/study", True),
    ("/", "{here}/study", True),
    ("{here}/text/**/*.md", "{here}/text/runs/study", True),
    ("{here}/**", "{here}/runs", True),
    ("{here}/text/*/*.json", "{here}/text/study", True),
    ("{here}/t*/*/*/*.json", "{here}/text/study", True),
    ("{here}/text/*.json", "{here}/text/study", False),
    ("{here}/text/a*/*.json", "{here}/text/study", False),
    ("{here}/text", "{here}/text-study", False),
    ("{here}/text", "{here}/study", False),
    ("{here}/text/runs", "{here}/text", False),
    ("{here}/text", "{here}/text/.cpt-ray/study", False),
    ("{here}/text/*.json", "{here}/text", True),
    ("{here}/text/a.txt", "{here}/text/study", False),
    ("{here}/text/a.txt", "{here}/text", False),
    ("zip://**/*.txt::{here}/text/a.zip", "{here}/text/study", False),
    ("{here}/text", "s3://bucket/text/study", False),
    ("s3://bucket/text", "{here}/study", False),
    ("s3://bucket", "s3://bucket/text/study", True),
    ("s3://bucket/text/", "s3://bucket/text/study", True),
    ("s3://bucket/text/**/*.jsonl", "s3://bucket/text/study", True),
    ("s3://bucket/text/*.jsonl", "s3://bucket/text/study", False),
    ("s3://bucket/text", "s3://bucket/texts", False),
    ("gs://bucket/text", "s3://bucket/text/study", False),
]


@pytest.mark.parametrize(
    ("uri", "folder", "expected"), WRITTEN_LATER, ids=[f"{uri} {folder}" for uri, folder, _ in WRITTEN_LATER]
)
def test_what_is_written_later_may_be_below_a_path(tmp_path, uri, folder, expected):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "text")
    assert would_list(uri.format(here=tmp_path), folder.format(here=tmp_path)) is expected
