"""A real MLflow server on this machine, over http with a sqlite backend, for measurements, acceptance lists and tests."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from benchmarks.measure.local_server import local_server

_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def serve(database: Path) -> contextlib.AbstractContextManager[str]:
    """Serve a database, which is made where there is none; artifacts lie beside it. Gives the address.

    Raises:
        AssertionError: If the server ends, or does not answer within two minutes.
    """

    def command(port: int) -> list[str]:
        server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        return [
            *server,
            "--backend-store-uri",
            f"sqlite:///{database}",
            "--artifacts-destination",
            str(database.parent / "served"),
        ]

    return local_server(command, health="/health", environment=_ENVIRONMENT)
