"""A bucket for the roots of studies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.object_store import ObjectStore, object_store


@pytest.fixture(scope="session")
def bucket() -> Iterator[ObjectStore]:
    with object_store() as found:
        yield found
