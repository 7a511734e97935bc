"""What a file is, by its name and by its first bytes.

In: a name, or the head of a stream. Out: a format of `SourceConfig`, or the kind under which the file is left out.

Guarantee: the bytes of a container, an image or a program are never taken for text, whatever the file is called.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from cpt_ray.config.sections.prepare import SourceFormat

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")

_FORMATS: dict[str, SourceFormat] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".mdown", ".mkd"), "text"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), "jsonl"),
    ".json": "json",
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".arrows", ".ipc", ".feather"), "arrow"),
}
_LEFT_OUT = {
    ".pdf": "pdf",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp", ".bmp", ".svg", ".ico", ".heic"), "image"),
    **dict.fromkeys((".mp3", ".mp4", ".wav", ".flac", ".ogg", ".avi", ".mov", ".mkv", ".webm"), "media"),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".epub", ".xls", ".xlsx", ".ods", ".ppt", ".pptx"), "office"),
    **dict.fromkeys((".lz4", ".lz", ".lzma", ".z", ".br", ".sz", ".snappy"), "compressed"),
    **dict.fromkeys((".7z", ".rar", ".cab", ".iso", ".lzh", ".zip", ".tar", ".tgz"), "archive"),
}
_MAGIC = (
    (b"%PDF-", "pdf"),
    (b"PK\x03\x04", "archive"),
    (b"PK\x05\x06", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"Rar!\x1a\x07", "archive"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\x04\x22\x4d\x18", "compressed"),  # lz4
    (b"\x1f\x9d", "compressed"),
    (b"LZIP\x01", "compressed"),
    (b"\xff\x06\x00\x00sNaPpY", "compressed"),
    (b"\x89PNG", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF8", "image"),
    (b"\xd0\xcf\x11\xe0", "office"),
    (b"SQLite format 3\x00", "binary"),
    (b"\x7fELF", "binary"),
)
_TAR_AT = 257
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
"""Byte-order marks of UTF-16 and UTF-32, whose texts are full of NUL bytes."""


def plain_name(path: str) -> str:
    """The name of a listed file: without folder, archive and query string."""
    first = path.split("::")[0] if "://[" not in path else path
    if first.startswith(("http://", "https://")):
        first = urlsplit(first).path
    return PurePosixPath(first).name


def format_of(path: str) -> SourceFormat | None:
    """The format that a file's extension stands for; None for an extension that stands for none."""
    return _FORMATS.get(_suffix(path))


def left_out_kind(path: str) -> str:
    """The kind under which a file without a format is left out: `pdf`, `image`, ..., or `unknown`."""
    return _LEFT_OUT.get(_suffix(path), "unknown")


def _suffix(path: str) -> str:
    name = plain_name(path).lower()
    for packed in COMPRESSED:
        name = name.removesuffix(packed)
    return PurePosixPath(name).suffix


def is_hidden(name: str) -> bool:
    """Whether a part of a path is hidden: dot files, and what writers of tables and archives put next to their files."""
    return name.startswith(".") or name in ("_SUCCESS", "_metadata", "_common_metadata", "_temporary", "__MACOSX")


def foreign_kind(head: bytes, file_format: SourceFormat) -> str | None:
    """What a file is that its format does not expect, by its first bytes; None if they could be of that format.

    Args:
        head: At least the first 512 bytes, decompressed; fewer for a shorter file.
        file_format: The format that the file is read as.
    """
    kind = _by_magic(head)
    if file_format in ("parquet", "arrow"):
        return None if kind in (None, "binary", file_format) else kind
    if kind is None and file_format in ("text", "html", "front_matter") and b"\x00" in head and not head.startswith(_WIDE):
        return None if _is_text_with_nul(head) else "binary"
    return kind


def _is_text_with_nul(head: bytes) -> bool:
    """Whether NUL bytes are stray in otherwise printable text; cleaning removes them."""
    control = sum(byte < 9 or 13 < byte < 32 for byte in head)
    return head.count(b"\x00") == control and control * 10 <= len(head)


def _by_magic(head: bytes) -> str | None:
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "archive"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def decoded_name(name: str) -> str:
    """A name of a file as text: bytes that are not UTF-8, which Python keeps as half characters, are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
