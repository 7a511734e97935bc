"""Whether an existing page is up to date.

Rendering the page of a large study takes seconds. So a page carries a fingerprint of its inputs: the contents, and the code of
this room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from cpt_ray.records import ShardManifest
from cpt_ray.records.base import Record
from cpt_ray.report.contents import ReportContents

FIGURES = "figures"
"""Folder of the figures' files, next to the page."""
_HEAD_BYTES = 4096


def report_fingerprint(contents: ReportContents) -> str:
    """SHA-256 of everything a page depends on. The shards' columns enter through the fingerprint of their artifact."""
    digest = hashlib.sha256()
    for field in fields(contents):
        digest.update(f"{field.name}=".encode())
        _feed(digest, getattr(contents, field.name))
    room = Path(__file__).parent
    for path in sorted(path for path in room.rglob("*.*") if path.suffix in (".py", ".j2", ".css")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def twins_of(page: Path) -> tuple[Path, Path]:
    """The Markdown and the JSON next to a page."""
    return page.with_suffix(".md"), page.with_suffix(".json")


def figures_of(page: Path) -> list[Path]:
    """The figures' files next to a page."""
    return sorted((page.parent / FIGURES).glob("*.svg"))


def is_current(path: Path, fingerprint: str) -> bool:
    """Whether the page at `path` carries this fingerprint, and has its twins and figures."""
    try:
        with path.open("rb") as stream:
            return fingerprint.encode() in stream.read(_HEAD_BYTES) and all(
                made.exists() for made in (*twins_of(path), path.parent / FIGURES)
            )
    except OSError:
        return False


def _feed(digest: hashlib._Hash, value: object) -> None:
    """Hash a value as text: the JSON of a record is made ten times faster than its `repr`."""
    if isinstance(value, tuple):
        digest.update(b"(")
        for item in value:
            _feed(digest, item)
        digest.update(b")")
    elif isinstance(value, Mapping):
        digest.update(b"{")
        for key, item in value.items():
            digest.update(f"{key!r}:".encode())
            _feed(digest, item)
        digest.update(b"}")
    elif isinstance(value, ShardManifest) or not isinstance(value, Record):
        digest.update(f"{value!r};".encode())
    else:
        digest.update(f"{value.to_json()};".encode())
