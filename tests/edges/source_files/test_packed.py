"""Compressed files are read to their last member, or are an error that says where they stop being one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pyarrow as pa
import pytest

from cpt_ray.edges.source_files import Unpacked, unpacked

pytestmark = pytest.mark.accept(inputs=1)

Pack = Callable[[bytes], bytes]
PACKS = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
DATA = b"".join(b"line %d of the file\n" % number for number in range(30_000))


def plain(packed: bytes) -> bytes:
    stream = unpacked(io.BytesIO(packed))
    assert isinstance(stream, Unpacked)
    return bytes(stream.read())


@pytest.mark.parametrize("name", PACKS)
def test_all_members_are_read_and_zeros_behind_them_are_padding(name: str) -> None:
    pack = PACKS[name]
    parts = [DATA[at : at + 7000] for at in range(0, len(DATA), 7000)]
    assert plain(b"".join(map(pack, parts))) == DATA
    assert plain(pack(DATA) + b"\0" * 512) == DATA
    assert plain(pack(DATA) + b"\0" * 8 + pack(b"") + pack(DATA)) == DATA * 2
    assert plain(pack(b"")) == b""


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("rest", [b"garbage", b"\0\0garbage", b"\x1f"], ids=["text", "padding and text", "half a magic"])
def test_bytes_behind_the_last_member_are_an_error(name: str, rest: bytes) -> None:
    with pytest.raises(OSError, match=rf"{name} member 1 is followed by bytes that are no member, b'"):
        plain(PACKS[name](DATA) + rest)


@pytest.mark.parametrize("name", PACKS)
def test_a_member_whose_header_is_damaged_does_not_end_the_file_in_silence(name: str) -> None:
    first, second = PACKS[name](DATA), bytearray(PACKS[name](DATA))
    second[0] ^= 1
    with pytest.raises(OSError, match="is followed by bytes that are no member"):
        plain(first + bytes(second) + first)
    second[0] ^= 1
    second[len(second) // 2] ^= 255
    with pytest.raises(OSError, match=f"{name} member 2: "):
        plain(first + bytes(second))


@pytest.mark.parametrize("name", PACKS)
def test_an_end_within_a_member_is_an_error(name: str) -> None:
    packed = PACKS[name](DATA)
    for keep in (len(packed) // 2, len(packed) - 1):
        with pytest.raises(EOFError, match=f"ends within {name} member 2"):
            plain(packed + packed[:keep])


def test_seams_are_where_a_member_ends_without_a_newline() -> None:
    stream = unpacked(io.BytesIO(b"".join(map(gzip.compress, (b"one\n", b"two", b"three\n", b"", b"fo", b"ur")))))
    assert stream.read() == b"one\ntwothree\nfour"
    assert list(stream.seams) == [7, 15]


def test_what_pzstd_writes_is_known_by_its_first_frame() -> None:
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
    frame = pa.compress(DATA, "zstd", asbytes=True)
    assert plain(skipped + frame + skipped + frame) == DATA * 2
    with pytest.raises(OSError, match="ZSTD decompress failed"):
        plain(frame + b"garbage")
