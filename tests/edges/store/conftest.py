"""A bucket, and this process as a node with a mirror of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpt_ray.edges import store as store_of
from tests.object_store import ObjectStore, node


@pytest.fixture
def bucket(bucket: ObjectStore) -> Iterator[ObjectStore]:
    """As the test before found it: nothing fails, nothing was asked."""
    bucket.recover()
    bucket.seen.clear()
    yield bucket
    bucket.recover()


@pytest.fixture
def root(bucket: ObjectStore, tmp_path: Path) -> Iterator[Path]:
    """The mirror of a root of its own for each test."""
    with node(tmp_path / "node"):
        yield store_of.mirror_of(f"s3://studies/{tmp_path.name}")
