"""Fixtures shared by the whole test run: a private Ray and a prepared tiny study, made by the first test that asks for them.

`make test` runs in two processes, a file at a time. Each has a Ray of its own; the prepared study is made once for both.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from cpt_ray.config.sections.runtime import RuntimeConfig
from tests.integration.tiny_study import TinyStudy, write_tiny_study

LONGEST_FIRST = (
    "integration/test_whole_study.py",
    "study/test_driver_killed.py",
    "integration/test_job_submit.py",
    "train/test_launch.py",
    "data/run/test_pipeline.py",
    "cli/test_bad_input.py",
    "cli/test_main.py",
    "evaluate/test_launch.py",
    "evaluate/test_harness.py",
    "architecture/test_gates_bite.py",
)
"""Files that take over ten seconds. Two processes end at the same time only if the long files do not come last."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Print the seed of this run's order: pytest-randomly does so in a header that `-q` hides."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")  # a process of xdist has none
    seed = session.config.getoption("randomly_seed", None)
    if terminal is not None and seed is not None:
        terminal.write_line(f"random order; repeat it with: pytest --randomly-seed={seed}")


@pytest.fixture(scope="session")
def ray_session_2cpu() -> Iterator[None]:
    """A private Ray for two workers, shared by all tests of this process."""
    from cpt_ray.edges.ray_runtime import ray_session

    with ray_session(RuntimeConfig(workers=2, prepare_workers=4)):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by how long they take, and skip what needs a GPU where there is none."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def prepared_study(tmp_path_factory: pytest.TempPathFactory, ray_session_2cpu: None) -> TinyStudy:
    """A tiny study that is prepared and not trained; tests copy it (`TinyStudy.copy`) and leave it as it is."""
    from cpt_ray.cli.main import main

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # the folder of the whole run, which its processes share
    study, done = TinyStudy.at(shared / "prepared" / "study"), shared / "prepared" / "done"
    with FileLock(shared / "prepared.lock"):
        if not done.exists():
            write_tiny_study(study.config.parent, kind="local")
            assert main(["prepare", str(study.config)]) == 0
            done.touch()
    return study
