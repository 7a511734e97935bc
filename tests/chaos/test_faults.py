"""What a fault of the cluster costs while two groups train: when it is known, when training goes on, how many steps are lost.

Every disturbed study must end with the rows, losses and weights of one in peace. The figures are those of docs/operations.md.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from cpt_ray.records import CommandRecord, RunRecord, ShardManifest, UnitReport
from tests.chaos.cluster import SimulatedCluster
from tests.chaos.lineage import Lineage, attempts_of, folder_of, lineage_of, steps_of
from tests.integration.tiny_study import TinyStudy, write_tiny_study

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.full, pytest.mark.accept(cluster=5), pytest.mark.timeout(1500)]

BUDGET = 300_000
RUNS = tuple(f"tiny-{arm}-{BUDGET}-seed0" for arm in ("legal", "control"))
OVERRIDES = (
    "runtime.kind=ray",
    "runtime.workers=1",
    "runtime.parallel_runs=2",
    f"train.budgets=[{BUDGET}]",
    "train.checkpoint_every=10000",
    "train.keep_checkpoints=9999",
    "arms.legal.max_epochs=99",
    "arms.control.max_epochs=99",
)
INTERVAL = 45
"""Steps from one checkpoint to the next: 40 of full rows."""
SAID_S = 60
"""A lost control service must be said within this time."""


class Driver:
    """A command on a simulated cluster, with its output kept."""

    def __init__(
        self, study: TinyStudy, cluster: SimulatedCluster, verb: str = "train", overrides: tuple[str, ...] = OVERRIDES
    ):
        self.study, self.log = study, study.config.parent / f"{verb}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "cpt_ray.cli.main", verb, str(study.config), *overrides]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=cluster.environment, stdout=log, stderr=log)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until(self, happened: Callable[[], bool], *, limit_s: float = 600) -> float:
        """Wait for something; the seconds that it took."""
        started = time.monotonic()
        while not happened():
            assert time.monotonic() - started < limit_s, self.said[-3000:]
            assert self.process.poll() is None or happened(), self.said[-3000:]
            time.sleep(0.02)
        return time.monotonic() - started

    def ended(self, *, limit_s: float = 600) -> int:
        """Wait for the end; the exit code."""
        try:
            return self.process.wait(limit_s)
        finally:
            self.process.kill()


def steps(study: TinyStudy, run: str, attempt: int) -> int:
    """How many steps an attempt of a run has done."""
    folders = list(study.root.glob(f"train/{run}-*"))
    return len(steps_of(folders[0], attempt)) if folders else 0


def both_train(study: TinyStudy) -> bool:
    return all(steps(study, run, 1) >= 100 for run in RUNS)


def record(study: TinyStudy, run: str) -> RunRecord:
    return RunRecord.of(folder_of(study.root, run))


def facts(lineage: Lineage) -> list[tuple[float, float, int]]:
    return [(step.loss, step.gradient_norm, step.tokens_seen) for step in lineage.steps]


def require_same(disturbed: TinyStudy, quiet: TinyStudy) -> int:
    """Check that nothing was lost or repeated; how many steps were done in vain."""
    in_vain = 0
    for run in RUNS:
        mine, theirs = (lineage_of(study.root, run) for study in (disturbed, quiet))
        assert mine.sample_ids == theirs.sample_ids
        assert len(mine.sample_ids) > 1000
        assert [(step.loss, step.tokens_seen) for step in mine.steps] == [
            (step.loss, step.tokens_seen) for step in theirs.steps
        ]
        weights = [load_file(Path(record(study, run).export_path) / "model.safetensors") for study in (disturbed, quiet)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
        in_vain += mine.in_vain
    return in_vain


@pytest.fixture(scope="module")
def quiet(prepared_study, tmp_path_factory) -> TinyStudy:
    study = prepared_study.copy(tmp_path_factory.mktemp("quiet") / "study")
    with SimulatedCluster(nodes=1, cpus=3) as cluster:
        driver = Driver(study, cluster)
        assert driver.ended() == 0, driver.said
    starts = [record(study, run).training.interval for run in RUNS]
    assert max(start for start, _ in starts) < min(end for _, end in starts)  # side by side
    return study


def test_a_lost_control_service_is_said_within_a_minute_and_what_trains_saves(prepared_study, quiet, tmp_path, record_property):
    study = prepared_study.copy(tmp_path / "study")
    with SimulatedCluster(nodes=1, cpus=3) as cluster:
        driver = Driver(study, cluster)
        driver.wait_until(lambda: both_train(study))
        cluster.behead()
        began = time.monotonic()
        said_s = driver.wait_until(lambda: "control service at" in driver.said, limit_s=SAID_S)
        assert driver.ended(limit_s=SAID_S) == 2
        ended_s = time.monotonic() - began
    assert "has not answered for" in driver.said
    assert "fix: start the cluster again if it is gone" in driver.said
    assert "re-run the same command to resume from the last checkpoint" in driver.said
    assert "Traceback" not in driver.said
    assert not any(list(folder_of(study.root, run).glob("run.json")) for run in RUNS)
    with SimulatedCluster(nodes=1, cpus=3) as cluster:
        again = Driver(study, cluster)
        back_s = again.wait_until(lambda: all(steps(study, run, 2) for run in RUNS))
        assert again.ended() == 0, again.said
    assert all(attempts_of(folder_of(study.root, run))[-1].first_step > 0 for run in RUNS)
    lost = require_same(study, quiet)
    assert lost == 0  # all workers saved before the command ended
    record_property(
        "control service lost", f"said {said_s:.0f} s, ended {ended_s:.0f} s, re-run trains {back_s:.0f} s, lost {lost}"
    )


def test_a_node_that_joins_and_is_not_fit_ends_the_command_after_a_checkpoint(prepared_study, quiet, tmp_path, record_property):
    study = prepared_study.copy(tmp_path / "study")
    with SimulatedCluster(nodes=1, cpus=3) as cluster:
        driver = Driver(study, cluster)
        driver.wait_until(lambda: both_train(study))
        cluster.add_unfit(1)
        began = time.monotonic()
        said_s = driver.wait_until(lambda: "not every node of the cluster can work" in driver.said, limit_s=SAID_S)
        assert driver.ended(limit_s=SAID_S) == 2
        ended_s = time.monotonic() - began
        cluster.kill(1)
        cluster.seconds_until_lost(1)
        assert "lm-eval 0.0.1 (driver " in driver.said
        assert "fix: install the same versions on every node" in driver.said
        noted = CommandRecord.of(study.root)
        same = "install the same versions on every node (make setup with the same requirements.lock, or one image)"
        assert (noted.outcome, noted.fix) == ("failed", same)
        assert "Traceback" not in driver.said
        again = Driver(study, cluster)
        assert again.ended() == 0, again.said
    assert all(attempts_of(folder_of(study.root, run))[-1].first_step > 0 for run in RUNS)
    lost = require_same(study, quiet)
    assert lost == 0  # all workers saved before the command ended
    record_property("a node that is not fit joins", f"said {said_s:.0f} s, ended {ended_s:.0f} s, lost {lost}")


def test_a_node_lost_with_two_groups_costs_its_group_the_steps_since_its_checkpoint(
    prepared_study, quiet, tmp_path, record_property
):
    study = prepared_study.copy(tmp_path / "study")
    with SimulatedCluster(nodes=2, cpus=2) as cluster:
        driver = Driver(study, cluster)
        driver.wait_until(lambda: both_train(study))
        (first,) = attempts_of(folder_of(study.root, RUNS[0]))
        raylet = psutil.Process(first.worker_pids[0]).ppid()
        node = next(number for number in range(2) if cluster.raylet(number) == raylet)
        cluster.kill(node)
        began = time.monotonic()
        found_s = cluster.seconds_until_lost(node)
        driver.wait_until(lambda: any(steps(study, run, 2) for run in RUNS))
        back_s = time.monotonic() - began
        assert driver.ended() == 0, driver.said
    moved = [run for run in RUNS if len(record(study, run).training.attempts) > 1]
    assert moved
    assert all(record(study, run).training.last.first_step > 0 for run in moved)
    lost = require_same(study, quiet)
    assert 1 <= lost <= 2 * INTERVAL  # since a checkpoint of one group, and the one that was being uploaded
    record_property(
        "node lost, two groups", f"found {found_s:.0f} s, trains {back_s:.0f} s, {len(moved)} group(s), lost {lost}"
    )


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, with room for some checkpoints."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_disk_that_is_full_at_a_checkpoint_is_said_and_the_same_command_goes_on(
    prepared_study, quiet, tmp_path, small_disk, record_property
):
    study = prepared_study.copy(tmp_path / "study")
    overrides = (*OVERRIDES, f"runtime.scratch={small_disk}")
    with SimulatedCluster(nodes=1, cpus=3) as cluster:
        driver = Driver(study, cluster, overrides=overrides)
        driver.wait_until(lambda: both_train(study))
        filler = small_disk / "filler"
        began = time.monotonic()
        with filler.open("wb") as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(1 << 16))
                stream.flush()
        said_s = driver.wait_until(lambda: "fix:" in driver.said)
        assert driver.ended() == 2
        ended_s = time.monotonic() - began
        filler.unlink()
        assert "set runtime.scratch to a local folder with more" in driver.said
        assert "Traceback" not in driver.said
        again = Driver(study, cluster, overrides=overrides)
        assert again.ended() == 0, again.said
    assert all(attempts_of(folder_of(study.root, run))[-1].first_step > 0 for run in RUNS)
    lost = require_same(study, quiet)
    assert 1 <= lost <= 2 * 2 * INTERVAL  # likewise, of both groups
    figures = f"said after {said_s:.0f} s, ended after {ended_s:.0f} s; {lost} steps lost"
    record_property("disk full at a checkpoint", figures)


def done_by(study: TinyStudy) -> dict[str, int]:
    """The process that did each unit of documents, by the path of its report."""
    reports = {str(path): path.read_text() for path in study.root.glob("documents/*/units/*/*.json")}
    return {name: UnitReport.from_json(text).pid for name, text in reports.items()}


def test_a_node_lost_while_text_is_prepared_changes_no_shard(tmp_path, record_property):
    overrides = ("prepare.unit_bytes=3000", "train.budgets=[2000]", "runtime.kind=ray", "runtime.prepare_workers=4")
    studies = [write_tiny_study(tmp_path / name) for name in ("disturbed", "quiet")]
    with SimulatedCluster(nodes=2, cpus=2) as cluster:
        undisturbed = Driver(studies[1], cluster, "prepare", overrides)
        assert undisturbed.ended() == 0, undisturbed.said
        driver = Driver(studies[0], cluster, "prepare", overrides)
        driver.wait_until(lambda: len(done_by(studies[0])) >= 5)
        cluster.kill(0)
        before = done_by(studies[0])
        found_s = cluster.seconds_until_lost(0)
        began = time.monotonic()
        assert driver.ended() == 0, driver.said
        done_s = time.monotonic() - began
    after = done_by(studies[0])
    again = sum(after[name] != who for name, who in before.items())
    assert len(after) > len(before)
    assert again <= 4  # what the four processes had in hand: a report is written before its unit is returned
    shards = [ShardManifest.load(next(study.root.glob("shards/*/manifest.json"))) for study in studies]
    assert shards[0].shards == shards[1].shards
    assert shards[0].reports == shards[1].reports
    figures = f"known after {found_s:.0f} s, done {done_s:.0f} s later; {again} finished units done again; the same shards"
    record_property("node lost in prepare", figures)
