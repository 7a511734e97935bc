"""Fixtures of the training room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.train.engine.zero_group import ZeroGroups


@pytest.fixture(scope="session")
def zero_groups() -> Iterator[ZeroGroups]:
    """Process groups by world size, shared by the run: `zero_groups.of(2).run(function, *args)`."""
    groups = ZeroGroups()
    yield groups
    groups.close()
