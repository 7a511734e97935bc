"""Fixtures of the training tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist

from tests.train.engine.zero_group import ZeroGroups


@pytest.fixture(scope="session")
def zero_groups() -> Iterator[ZeroGroups]:
    """Process groups by world size, shared by the session: `zero_groups.of(2).run(function, *args)`."""
    groups = ZeroGroups()
    yield groups
    groups.close()


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
