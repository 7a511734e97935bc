"""Whether an existing page is up to date.

Rendering a page takes seconds of CPU, mostly to import matplotlib and to draw each figure twice. So a page carries a
fingerprint of its inputs: the contents, and the code of this room.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

from cpt_ray.report.contents import ReportContents

_HEAD_BYTES = 4096


def report_fingerprint(contents: ReportContents) -> str:
    """SHA-256 of everything a page depends on. The shards' columns enter through the fingerprint of their artifact."""
    digest = hashlib.sha256()
    for field in fields(contents):
        digest.update(f"{field.name}={getattr(contents, field.name)!r}\n".encode())
    for path in sorted(Path(__file__).parent.glob("*.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_current(path: Path, fingerprint: str) -> bool:
    """Whether the page at `path` carries this fingerprint."""
    try:
        with path.open("rb") as stream:
            return fingerprint.encode() in stream.read(_HEAD_BYTES)
    except OSError:
        return False
