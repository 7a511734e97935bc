"""Fixtures shared by the whole test run: a private Ray, and tiny studies made by the first test that requests them.

`make test` runs in two processes, one file at a time. Each has a private Ray; a study is made once for both.
"""

import contextlib
import gc
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from cpt_ray.config.sections.runtime import RuntimeConfig
from tests.integration.finished import FinishedStudy, cpt_ray
from tests.integration.tiny_study import TinyStudy, study_tree, write_tiny_study
from tests.object_store import ObjectStore, object_store

LONGEST_FIRST = (
    "integration/test_whole_study.py",
    "integration/test_merges.py",
    "study/test_driver_killed.py",
    "integration/test_job_submit.py",
    "integration/test_from_init.py",
    "train/groups/test_launch.py",
    "train/checkpoint/test_resume_in_a_bucket.py",
    "integration/test_study_in_a_bucket.py",
    "data/run/test_pipeline.py",
    "data/filter/test_domain_arms.py",
    "cli/test_bad_input.py",
    "cli/test_main.py",
    "evaluate/test_launch.py",
    "evaluate/test_harness.py",
    "architecture/test_gates_bite.py",
)
"""Files that take over ten seconds. The two processes finish together only if the long files do not come last."""


settings.register_profile("gate", derandomize=True)
# Until all tests are collected: with Torch and Ray loaded, a full garbage collection takes a second and finds nothing.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Fuzz the same examples each time where a test run decides about a change; `make test-full` looks for new ones."""
    if "not full" in config.option.markexpr:
        settings.load_profile("gate")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Print the seed of this run's test order: pytest-randomly prints it in a header that `-q` hides."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")  # an xdist worker has none
    seed = session.config.getoption("randomly_seed", None)
    if terminal is not None and seed is not None:
        terminal.write_line(f"random order; repeat it with: pytest --randomly-seed={seed}")


@pytest.fixture(scope="session")
def ray_session_2cpu() -> Iterator[None]:
    """A private Ray for two workers, shared by all tests of this process."""
    from cpt_ray.edges.ray_runtime import ray_session

    with ray_session(RuntimeConfig(workers=2, prepare_workers=5)):  # six CPUs: two or three groups train side by side
        yield


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    """An object store, one at a time: the address is in the environment of this process."""
    with object_store() as found:
        yield found


def pytest_collection_finish() -> None:
    """Exempt everything that was imported from later garbage collections."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by duration, and skip GPU tests if there is no GPU."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder made by the first process that requests it, and read by the other."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # the folder shared by all processes of the run
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def prepared_study(tmp_path_factory: pytest.TempPathFactory, ray_session_2cpu: None) -> TinyStudy:
    """A tiny study, prepared but not trained; tests work on a copy (`TinyStudy.copy`)."""
    from cpt_ray.cli.main import main

    def make(folder: Path) -> None:
        assert main(["prepare", str(write_tiny_study(folder, kind="local").config)]) == 0

    return TinyStudy.at(made_once(tmp_path_factory, "prepared", make))


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory, ray_session_2cpu: None) -> FinishedStudy:
    """A tiny study that two workers ran from text to report; tests read it or change a copy."""

    def make(folder: Path) -> None:
        study = write_tiny_study(folder)
        # A worker's two rows per step in micro-batches of three: some are idle, which triggers a warning.
        study.change(train={**study_tree(folder)["train"], "micro_batch_size": 3}, tracking={"tensorboard": True})
        with contextlib.redirect_stderr(io.StringIO()) as warned:
            code, said = cpt_ray("run", str(study.config))
        assert code == 0, warned.getvalue()
        (folder / "said.txt").write_text(said)
        (folder / "warned.txt").write_text(warned.getvalue())

    folder = made_once(tmp_path_factory, "finished", make)
    return FinishedStudy(TinyStudy.at(folder), *((folder / name).read_text() for name in ("said.txt", "warned.txt")))
