"""A database of MLflow, and the files beside it, in another place than the one that they were written in.

In: a copy of `mlflow.db` with its folder of artifacts. Out: the same database, whose addresses lead to that folder; who wrote
them had it elsewhere. Guarantee: no other address is touched, and a database that is right is not written.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from cpt_ray.edges.storage import unwritable
from cpt_ray.errors import ArtifactError

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
"""Their names in a study's root."""
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns with addresses of files; an older database lacks some."""


def lead_here(folder: Path) -> None:
    """Let the database in a folder lead to the artifacts in that folder; does nothing without one.

    Raises:
        ArtifactError: If it is no database, or cannot be written.
    """
    path = folder / DATABASE
    if not path.is_file():
        return
    here = (folder / ARTIFACTS).resolve().as_uri()
    try:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            for table, column in _ADDRESSES:
                _replace(database, table, column, here)
    except sqlite3.Error as error:
        raise _no_database(path, error) from None


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that another process may be writing, whole.

    Raises:
        ArtifactError: If it is no database, or the copy cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as old,
            contextlib.closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
    except sqlite3.Error as error:
        raise _no_database(source, error) from None


def _replace(database: sqlite3.Connection, table: str, column: str, here: str) -> None:
    if column not in {row[1] for row in database.execute(f"pragma table_info({table})")}:
        return
    mark = f"/{ARTIFACTS}"
    # Names of tables cannot be parameters; these are constants.
    found = database.execute(f"select distinct {column} from {table} where {column} like 'file:%'").fetchall()  # noqa: S608
    # Up to the last folder of this name: the path of a root may have one too.
    for (address,) in found:
        head, name, rest = address.rpartition(f"{mark}/") if not address.endswith(mark) else (address[: -len(mark)], mark, "")
        if name and head + mark != here:
            there = f"{here}/{rest}" if rest else here
            database.execute(f"update {table} set {column} = ? where {column} = ?", (there, address))  # noqa: S608


def _no_database(path: Path, error: sqlite3.Error) -> ArtifactError:
    return ArtifactError(
        f"{path}: not a database of MLflow that can be read: {error}",
        fix="delete it, and let cpt-ray report write it again from the study's records",
    )
