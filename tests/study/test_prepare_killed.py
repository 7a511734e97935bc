"""Preparation whose driver or worker is killed, with Ray and without: the same command finishes, with the same shards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from cpt_ray.cli.main import main
from cpt_ray.records import ShardManifest
from tests.integration.tiny_study import TinyStudy, write_tiny_study

# `make test` has a sibling: tests/data/run/test_pipeline.py interrupts a preparation and resumes it.
pytestmark = [pytest.mark.accept(data=2), pytest.mark.ray, pytest.mark.slow, pytest.mark.full]

OVERRIDES = ("prepare.unit_bytes=3000", "train.budgets=[2000]")
WAIT_S = 240


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, ray_session_2cpu: None) -> TinyStudy:
    """The undisturbed study."""
    study = write_tiny_study(tmp_path_factory.mktemp("quiet") / "study", kind="ray")
    assert main(["prepare", str(study.config), *OVERRIDES]) == 0
    return study


def start(study: TinyStudy) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cpt_ray.cli.main", "prepare", str(study.config), *OVERRIDES]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def unit_reports(study: TinyStudy, stage: str = "*") -> dict[Path, int]:
    """The report of every finished unit, with its modification time."""
    return {path: path.stat().st_mtime_ns for path in study.root.glob(f"*/*/units/{stage}/*.json")}


def at_work(study: TinyStudy, driver: subprocess.Popen[str], stage: str, units: int) -> None:
    """Wait until `units` units of a stage are done."""
    end = time.monotonic() + WAIT_S
    while len(unit_reports(study, stage)) < units:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < end, f"stage {stage} never finished {units} units"
        time.sleep(0.002)


def manifest(study: TinyStudy) -> ShardManifest:
    (path,) = study.root.glob("shards/*/manifest.json")
    return ShardManifest.load(path)


def check_same(disturbed: TinyStudy, quiet: TinyStudy) -> None:
    """Check for the same shards and reports, and no document packed twice."""
    assert manifest(disturbed).shards == manifest(quiet).shards
    assert manifest(disturbed).reports == manifest(quiet).reports
    folder = next(disturbed.root.glob("shards/*/manifest.json")).parent
    whole = [
        (row["document_id"], row["part"])
        for entry in manifest(disturbed).shards
        for row in pq.read_table(folder / entry.index_path).to_pylist()
    ]
    assert len(whole) == len(set(whole)) > 100


def kill_driver(study: TinyStudy, driver: subprocess.Popen[str]) -> None:
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=60)
    assert driver.returncode == -signal.SIGKILL


def kill_worker(study: TinyStudy, driver: subprocess.Popen[str]) -> None:
    """Kill the process that wrote the newest report, during its next unit."""
    newest = max(unit_reports(study).items(), key=lambda item: item[1])[0]
    pid = json.loads(newest.read_text())["pid"]
    mine = {child.pid for child in psutil.Process(driver.pid).children(recursive=True)}
    assert pid in mine, "the worker is not one of this driver's"
    os.kill(pid, signal.SIGKILL)


def disturb(folder: Path, quiet: TinyStudy, stage: str, units: int, kill: Callable[..., None], *, kind: str = "ray") -> None:
    study = write_tiny_study(folder / "study", kind=kind)
    driver = start(study)
    try:
        at_work(study, driver, stage, units)
        kill(study, driver)
        if kill is kill_driver:
            assert not list(study.root.glob("shards/*/artifact.json"))
            time.sleep(2)  # tasks of the dead driver survive briefly
            done = unit_reports(study)
            assert len(done) < len(unit_reports(quiet)), "it was killed too late"
            driver = start(study)
        _, said = driver.communicate(timeout=WAIT_S)
        assert driver.returncode == 0, said
    finally:
        driver.kill()
        driver.communicate()
    if kill is kill_driver:
        again = [path for path, when in unit_reports(study).items() if path in done and done[path] != when]
        assert again == [], "a finished unit was redone"
    check_same(study, quiet)


def test_a_driver_killed_while_it_prepares_is_continued_with_the_units_that_are_left(tmp_path: Path, quiet: TinyStudy) -> None:
    disturb(tmp_path, quiet, "clean", 10, kill_driver)


def test_a_worker_killed_in_a_unit_changes_nothing(tmp_path: Path, quiet: TinyStudy) -> None:
    disturb(tmp_path, quiet, "pack", 4, kill_worker)


@pytest.mark.parametrize("kill", [kill_driver, kill_worker])
@pytest.mark.parametrize(("stage", "units"), [("clean", 10), ("pack", 4)])
def test_without_ray_it_ends_with_the_shards_of_ray(
    tmp_path: Path, quiet: TinyStudy, stage: str, units: int, kill: Callable[..., None]
) -> None:
    disturb(tmp_path, quiet, stage, units, kill, kind="local")


@pytest.mark.full
@pytest.mark.parametrize("kill", [kill_driver, kill_worker])
@pytest.mark.parametrize(
    ("stage", "units"),
    [("read", 3), ("clean", 3), ("duplicate_pairs", 1), ("near_duplicates", 5), ("held_out", 5), ("pack", 20)],
)
def test_killed_in_any_stage_it_ends_the_same(
    tmp_path: Path, quiet: TinyStudy, stage: str, units: int, kill: Callable[..., None]
) -> None:
    disturb(tmp_path, quiet, stage, units, kill)
