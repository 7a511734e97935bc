"""Fixtures shared by the whole test run: one private Ray, started by the first test that asks for it."""

from collections.abc import Iterator

import pytest
import torch

from cpt_ray.config.runtime import RuntimeConfig
from tests.integration.tiny_study import TinyStudy, write_tiny_study


@pytest.fixture(scope="session")
def ray_session_2cpu() -> Iterator[None]:
    """A private Ray for two workers, shared by the run."""
    from cpt_ray.edges.ray_runtime import ray_session

    with ray_session(RuntimeConfig(workers=2, prepare_workers=4)):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def prepared_study(tmp_path_factory: pytest.TempPathFactory, ray_session_2cpu: None) -> TinyStudy:
    """A tiny study that is prepared and not trained; tests copy it (`TinyStudy.copy`) and leave it as it is."""
    from cpt_ray.cli.main import main

    study = write_tiny_study(tmp_path_factory.mktemp("prepared") / "study", kind="local")
    assert main(["prepare", str(study.config)]) == 0
    return study
