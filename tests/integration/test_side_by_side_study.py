"""A whole study on a simulated cluster of six CPUs: runs side by side, models scored beside them, and a driver killed there.

The study undisturbed and one run after another on the same cluster is what it must equal.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpt_ray.records import Artifact, EvalRecord, RunRecord
from cpt_ray.study.stages.evaluate import base_run
from tests.chaos.cluster import SimulatedCluster
from tests.chaos.lineage import folder_of
from tests.integration.tiny_study import TinyStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.accept(cluster=2), pytest.mark.full, pytest.mark.timeout(1500)]

MIDDLE, LARGEST = 80_000, 160_000
TRUNK, SMALL, MEDIUM, LARGE, CONTROL = (
    f"tiny-{part}-seed0" for part in ("legal-trunk", "legal-2000", f"legal-{MIDDLE}", f"legal-{LARGEST}", f"control-{LARGEST}")
)
BUDGETS = (SMALL, MEDIUM, LARGE, CONTROL)
OVERRIDES = (
    "runtime.kind=ray",
    "runtime.workers=1",
    f"train.budgets=[2000, {MIDDLE}, {LARGEST}]",
    "train.checkpoint_every=8000",
    "arms.legal.max_epochs=99",
    "arms.control.max_epochs=99",
)


@dataclass
class Studies:
    """The same study in two groups, its driver killed once, and in one."""

    parallel: TinyStudy
    serial: TinyStudy
    said: str
    """By the command that finished the first one."""


def start(study: TinyStudy, cluster: SimulatedCluster, groups: int) -> subprocess.Popen[str]:
    overrides = (*OVERRIDES, f"runtime.parallel_runs={groups}")
    command = [sys.executable, "-m", "cpt_ray.cli.main", "run", str(study.config), *overrides]
    return subprocess.Popen(command, env=cluster.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_overlap(study: TinyStudy, driver: subprocess.Popen[str]) -> None:
    """Until trunk and control have both committed a checkpoint, and none has ended."""
    end = time.monotonic() + 600
    while not all(list(study.root.glob(f"train/{run}-*/checkpoints/*/manifest.json")) for run in (TRUNK, CONTROL)):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < end, "no checkpoint was committed"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def done(prepared_study, tmp_path_factory) -> Iterator[Studies]:
    folder = tmp_path_factory.mktemp("side-by-side")
    parallel, serial = (prepared_study.copy(folder / name) for name in ("parallel", "serial"))
    with SimulatedCluster(nodes=1, cpus=6) as cluster:
        killed = start(parallel, cluster, 2)
        wait_for_overlap(parallel, killed)
        killed.kill()
        killed.wait(30)
        finished = [start(parallel, cluster, 2)]
        said, _ = finished[0].communicate(timeout=600)
        assert finished[0].returncode == 0, said
        quiet = start(serial, cluster, 1)
        quietly, _ = quiet.communicate(timeout=600)
        assert quiet.returncode == 0, quietly
        yield Studies(parallel, serial, said)


def record(study: TinyStudy, run: str) -> RunRecord:
    return RunRecord.of(folder_of(study.root, run))


def committed_at(study: TinyStudy, run: str) -> float:
    """When the scores of a run were committed, in seconds since the epoch."""
    (folder,) = study.root.glob(f"evaluate/{run}-????????")
    return (folder / Artifact.FILE).stat().st_mtime


def ended_at(study: TinyStudy, run: str) -> float:
    return (folder_of(study.root, run) / RunRecord.FILE).stat().st_mtime


def test_the_killed_driver_left_two_runs_in_the_middle_and_both_went_on(done):
    for run in (TRUNK, CONTROL):
        training = record(done.parallel, run).training
        assert len(training.attempts) == 2
        assert training.last.first_step > 0
    (start, end), (other_start, other_end) = (record(done.parallel, run).training.interval for run in (TRUNK, CONTROL))
    assert start < other_end
    assert other_start < end


def test_weights_are_those_of_one_run_after_another(done):
    assert {attempt.world_size for attempt in record(done.serial, TRUNK).training.attempts} == {1}
    for run in BUDGETS:
        mine, theirs = (
            load_file(Path(record(study, run).export_path) / "model.safetensors") for study in (done.parallel, done.serial)
        )
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), run


def test_models_were_scored_while_others_trained(done):
    assert committed_at(done.parallel, base_run("tiny")) < ended_at(done.parallel, TRUNK)
    log = (done.parallel.root / "logs" / "driver.log").read_text().splitlines()
    told = [line.partition("cpt_ray.study.")[2] for line in log]
    scored, trained = (
        [number for number, line in enumerate(told) if line.startswith(begin)]
        for begin in ("live.beside: evaluate/", "live.session: made train/")
    )
    assert len(scored) >= len(BUDGETS)
    assert sum(number < trained[-1] for number in scored) >= 2  # the first two runs, while the last one trained
    for run in (base_run("tiny"), *BUDGETS):
        mine, theirs = (
            EvalRecord.of(next(study.root.glob(f"evaluate/{run}-????????"))) for study in (done.parallel, done.serial)
        )
        assert mine.task_pid != os.getpid()
        assert [score.nats for score in mine.held_out] == [score.nats for score in theirs.held_out]


def test_console_lines_name_the_runs_that_train_together(done):
    assert f"made    train/{TRUNK}-" in done.said
    assert f"made    evaluate/{SMALL}-" in done.said
