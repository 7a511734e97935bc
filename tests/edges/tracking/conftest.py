"""A real MLflow server on this machine, over http, with a sqlite backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.measure.tracking_server import serve


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a server that stores runs and artifacts in a folder of the tests."""
    with serve(tmp_path_factory.mktemp("server") / "runs.db") as address:
        yield address
