"""Archives give every member that they hold, or an error: never the beginning only."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpt_ray.edges.source_files import list_source_files, members
from cpt_ray.errors import DataError

pytestmark = pytest.mark.accept(inputs=1)

BLOCK = tarfile.BLOCKSIZE
FILES = {"a.txt": b"x" * 600, "b.txt": b"y", "in/c.txt": b"z"}
SECOND = BLOCK + 2 * BLOCK
"""Where the second header begins: after the first and 600 bytes in two blocks."""
END = SECOND + 4 * BLOCK


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return out.getvalue()


def names(data: bytes, kind: str = "tar") -> Iterator[tuple[str, str | None]]:
    for member in members(io.BytesIO(data), kind):  # type: ignore[arg-type]
        assert member.left_out or member.stream.read() == FILES[member.name]
        yield member.name, member.left_out


ALL = [(name, None) for name in FILES]


def test_a_tar_is_read_to_its_end_and_so_is_one_that_is_appended_to_it() -> None:
    assert list(names(tar())) == ALL
    assert list(names(tar() + tar())) == ALL * 2
    assert list(names(tar()[: END + 2 * BLOCK])) == ALL
    assert list(names(tar()[: END + BLOCK])) == ALL


@pytest.mark.parametrize(("keep", "read"), [(SECOND, 1), (SECOND + 2 * BLOCK, 2), (END, 3)])
def test_a_tar_that_ends_after_a_member_is_an_error(keep: int, read: int) -> None:
    found = names(tar()[:keep])
    assert [next(found) for _ in range(read)] == ALL[:read]
    with pytest.raises(tarfile.ReadError, match="the end-of-archive blocks are missing: the archive was cut between members"):
        next(found)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar()[:SECOND] + b"\1" * BLOCK + tar()[SECOND + BLOCK :], f"no header at byte {SECOND}: "),
        (tar()[: SECOND + 100], f"no header at byte {SECOND}: truncated header"),
        (tar() + b"garbage", "truncated header"),
        (tar() + b"garbage" * 1000, "no header at byte"),
        (tar()[: SECOND - 10], "unexpected end of data"),
    ],
    ids=["damaged header", "cut in a header", "little behind it", "much behind it", "cut in a member"],
)
def test_a_damaged_tar_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(tarfile.ReadError, match=message):
        list(names(data))


def test_a_member_whose_name_is_not_utf_8_is_read_under_a_name_that_can_be_written_down() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        info = tarfile.TarInfo("café.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"text"))
    out.seek(0)
    assert [(member.name, member.stream.read()) for member in members(out, "tar")] == [("caf\\udce9.txt", b"text")]


def test_zips_that_were_appended_to_one_another_are_an_error_and_a_self_extracting_one_is_read() -> None:
    assert list(names(zipped(), "zip")) == ALL
    assert list(names(b"#!/bin/sh\n" + zipped(), "zip")) == ALL
    with pytest.raises(zipfile.BadZipFile, match=r"the first \d+ bytes are members that its directory does not name"):
        list(names(zipped() + zipped(), "zip"))


@pytest.mark.parametrize(("at", "value"), [(10, 9), (8, 0x20)], ids=["method", "feature"])
def test_a_member_that_cannot_be_unpacked_is_left_out(at: int, value: int) -> None:
    data = bytearray(zipped())
    data[data.index(b"PK\x01\x02") + at] = value
    assert list(names(bytes(data), "zip")) == [("a.txt", "unsupported"), *ALL[1:]]


def test_a_pattern_inside_an_archive_lists_all_members_or_says_that_it_cannot(tmp_path: Path) -> None:
    for name, data in {"whole.tar": tar() + tar(), "cut.tar": tar()[:SECOND], "two.zip": zipped() + zipped()}.items():
        (tmp_path / name).write_bytes(data)
    assert len(list_source_files(f"tar://*.txt::{tmp_path}/whole.tar")) == 2
    with pytest.raises(DataError, match=r"cut\.tar: cannot be listed: .*the end-of-archive blocks are missing"):
        list_source_files(f"tar://*.txt::{tmp_path}/cut.tar")
    with pytest.raises(DataError, match=r"two\.zip: cannot be listed: .*members that its directory does not name"):
        list_source_files(f"zip://*.txt::{tmp_path}/two.zip")
