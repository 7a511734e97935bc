"""A note of what was last mirrored into a local MLflow database, so that unchanged records are not mirrored again.

Lets callers skip `store`. In: a tracking URI and a fingerprint of everything to be
mirrored. Out: yes or no. Importing MLflow and opening its database costs 2.4 s of CPU (one core of a Xeon).

Guarantee: "mirrored" means that the same content was mirrored and the database has not been written since: its size and
modification time are unchanged. A tracking server has no such marker, so for one the answer is always no.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import unquote

from cpt_ray.edges.redaction import redact_text
from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import Record

_SQLITE = "sqlite:///"
_WITH_DRIVER = "sqlite+pysqlite:///"


def default_uri(root: Path) -> str:
    """The sqlite database in a study's root."""
    return uri_of(root.resolve() / "mlflow.db")


def uri_of(database: Path) -> str:
    """The sqlite URI of a database file."""
    path = str(database)
    # SQLAlchemy takes what follows a `?` for options, and since 2.1 decodes `%`. MLflow does not decode: from a URI without the
    # name of the driver it makes a second folder with `%25` in its name.
    quoted = path.replace("%", "%25").replace("?", "%3F")
    return f"{_SQLITE if quoted == path else _WITH_DRIVER}{quoted}"


def database_of(uri: str) -> Path | None:
    """The database file of a sqlite URI; None for a tracking server."""
    scheme = next((scheme for scheme in (_SQLITE, _WITH_DRIVER) if uri.startswith(scheme)), None)
    return None if scheme is None else Path(unquote(uri.removeprefix(scheme).partition("?")[0]))


def command_that_shows(uri: str) -> str:
    """The command that shows the database at a sqlite URI in a browser."""
    return shlex.join(["mlflow", "ui", "--host", "127.0.0.1", "--backend-store-uri", redact_text(uri)])


class Mirrored(Record):
    """What was mirrored, and the state of the database right after."""

    FILE = "mirrored.json"

    uri: str
    content_sha256: str
    database_bytes: int
    database_changed_ns: int
    """Modification time, in nanoseconds since the epoch."""


def is_mirrored(root: Path, uri: str, content_sha256: str) -> bool:
    """Whether the database at `uri` holds exactly this content and has not changed since it was mirrored."""
    try:
        return Mirrored.of(root) == _note(uri, content_sha256)
    except (OSError, ValueError):  # a missing or unreadable note only costs another mirroring
        return False


def note_mirrored(root: Path, uri: str, content_sha256: str) -> None:
    """Record in the study's root that this content is mirrored; does nothing for a tracking server."""
    note = _note(uri, content_sha256)
    if note is not None:
        write_atomic(root / Mirrored.FILE, note.to_json())


def _note(uri: str, content_sha256: str) -> Mirrored | None:
    database = database_of(uri)
    if database is None or not database.is_file():
        return None
    stat = database.stat()
    return Mirrored(uri=uri, content_sha256=content_sha256, database_bytes=stat.st_size, database_changed_ns=stat.st_mtime_ns)
