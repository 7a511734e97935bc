"""A note of what was last mirrored into a local MLflow database, so that unchanged records are not mirrored again.

Around `edges.tracking`, which it lets callers skip. In: a tracking URI and a fingerprint of everything to be
mirrored. Out: yes or no. Importing MLflow and opening its database costs 2.4 s of CPU (one core of a Xeon).

Guarantee: "mirrored" means that the same content was mirrored and that nobody has written to the database since: its size
and time of change are those right after. A tracking server gives no such sign, so for one the answer is always no.
"""

from __future__ import annotations

from pathlib import Path

from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import Record

_SQLITE = "sqlite:///"


def default_uri(root: Path) -> str:
    """The sqlite database in a study's root."""
    return f"{_SQLITE}{root.resolve()}/mlflow.db"


def database_of(uri: str) -> Path | None:
    """The database file of a sqlite URI; None for a tracking server."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


class Mirrored(Record):
    """What was mirrored, and the database right after."""

    FILE = "mirrored.json"

    uri: str
    content_sha256: str
    database_bytes: int
    database_changed_ns: int
    """Time of change, in nanoseconds since the epoch."""


def is_mirrored(root: Path, uri: str, content_sha256: str) -> bool:
    """Whether exactly this content is in the database at `uri`, which is as the last mirroring left it."""
    try:
        return Mirrored.of(root) == _note(uri, content_sha256)
    except (OSError, ValueError):  # a note that is missing or cannot be read costs a mirroring and is not an error
        return False


def note_mirrored(root: Path, uri: str, content_sha256: str) -> None:
    """Note in the study's root that this content is mirrored; nothing is noted of a tracking server."""
    note = _note(uri, content_sha256)
    if note is not None:
        write_atomic(root / Mirrored.FILE, note.to_json())


def _note(uri: str, content_sha256: str) -> Mirrored | None:
    database = database_of(uri)
    if database is None or not database.is_file():
        return None
    stat = database.stat()
    return Mirrored(uri=uri, content_sha256=content_sha256, database_bytes=stat.st_size, database_changed_ns=stat.st_mtime_ns)
