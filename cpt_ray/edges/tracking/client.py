"""MLflow's client for a tracking URI, its experiment, and the end of runs that nobody continues.

Used by `store`, which mirrors, and by `watcher`, which outlives the driver. Guarantee: nothing is printed, and nothing is sent
to anyone but the tracking server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any, Literal

from cpt_ray.edges.store.cache import locked
from cpt_ray.edges.tracking.mirrored import database_of, uri_of
from cpt_ray.edges.tracking.moved import ARTIFACTS

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

PARENT_TAG = "mlflow.parentRunId"
_SILENT = {
    # The project sends nothing to anyone; MLflow would otherwise report its use.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A tracking server's address, twice for every run that ends.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def connect(uri: str) -> Any:
    """MLflow's client for a tracking URI; a sqlite database is created where it does not exist."""
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)
    # The package alone takes 1.0 s of CPU to import, whatever is imported from it, and sqlalchemy's check of the schema 1.3 s.
    from mlflow.tracking import MlflowClient

    # Creating a database logs about a hundred lines of migrations.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if (database := database_of(uri)) is not None and not database.exists():
        _make_database(database.resolve())
    return MlflowClient(tracking_uri=uri)


def _make_database(database: Path) -> None:
    """Make a database beside its place, and move it there when it is whole.

    MLflow makes one in about a hundred steps, each committed alone, and cannot open one that a killed process left between two.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database.parent.mkdir(parents=True, exist_ok=True)
    with locked(database.with_name(f".{database.name}.lock.tmp")):
        for left in database.parent.glob(f".{database.name}.*.making.tmp*"):
            left.unlink()
        if not database.exists():
            temporary = database.with_name(f".{database.name}.{os.getpid()}.making.tmp")
            SqlAlchemyStore(uri_of(temporary), (database.parent / ARTIFACTS).as_uri()).engine.dispose()
            os.replace(temporary, database)


def errors() -> tuple[type[Exception], ...]:
    """What MLflow and what is below it raise where a server or a database fails; of packages that are not there, nothing."""
    found: list[type[Exception]] = [OSError]
    with contextlib.suppress(ImportError):
        from mlflow.exceptions import MlflowException

        found.append(MlflowException)
    with contextlib.suppress(ImportError):
        from sqlalchemy.exc import SQLAlchemyError

        found.append(SQLAlchemyError)
    return tuple(found)


def experiment_id(client: Any, uri: str, name: str) -> str:
    """The id of an experiment, which is created, or restored, where it has to be."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    database = database_of(uri)
    location = (database.parent / ARTIFACTS).resolve().as_uri() if database is not None else None
    # Without its kind MLflow's UI takes an experiment for one of language-model prompts and hides the training charts.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=location, tags=tags))


def all_runs(client: Any, experiment: str, clauses: str) -> list[Any]:
    """Every run of an experiment that a filter finds, page by page."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], clauses, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def set_status(client: Any, run_id: str, status: Status) -> None:
    """Set a run's status; one other than RUNNING ends it now."""
    if status == "RUNNING":
        client.update_run(run_id, status=status)
    else:
        client.set_terminated(run_id, status=status, end_time=int(1000 * time.time()))


def end_running(client: Any, experiment: str, parent: str, status: Status, *, with_parent: bool = True) -> int:
    """End what is RUNNING of a study, its parent last, and return how many runs that were."""
    running = all_runs(client, experiment, f"tags.`{PARENT_TAG}` = '{parent}' and attributes.status = 'RUNNING'")
    ended = [str(run.info.run_id) for run in running]
    if with_parent and client.get_run(parent).info.status == "RUNNING":
        ended.append(parent)
    for run_id in ended:
        set_status(client, run_id, status)
    return len(ended)
