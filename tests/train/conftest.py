"""Fixtures of the training tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.train.engine.zero_group import ZeroGroups
from tests.train.tiny_run import make_model, make_shards


@pytest.fixture(scope="session")
def zero_groups() -> Iterator[ZeroGroups]:
    """Process groups by world size, shared by the session: `zero_groups.of(2).run(function, *args)`."""
    groups = ZeroGroups()
    yield groups
    groups.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and tiny shards, for the runs of one test file."""
    root = tmp_path_factory.mktemp("runs")
    make_model(root)
    make_shards(root)
    return root


@pytest.fixture
def one_worker() -> Iterator[None]:
    """A process group of one, as in `runtime.kind: local`, whose tests may have left one behind in this process."""
    if dist.is_initialized():
        assert dist.get_world_size() == 1
        yield
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
