"""A whole study with `runtime.use_head: false` on a simulated cluster whose head has CPUs: none of its work is done there."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time

import psutil
import pytest

from cpt_ray.records import EvalRecord, RunRecord
from tests.chaos.cluster import SimulatedCluster
from tests.integration.tiny_study import write_tiny_study

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.full, pytest.mark.accept(cluster=2), pytest.mark.timeout(900)]

OVERRIDES = ("runtime.workers=2", "runtime.prepare_workers=auto", "train.budgets=[2000]")


def parents_in(cluster: SimulatedCluster) -> dict[int, int]:
    """The parent of every process of the cluster: of a worker, the raylet of its node."""
    found = {}
    for one in cluster.processes():
        with contextlib.suppress(psutil.Error):
            found[one.pid] = one.ppid()
    return found


@pytest.mark.parametrize("use_head", [False, True])
def test_text_is_prepared_and_models_are_trained_and_scored_on_the_other_nodes_only(tmp_path, use_head):
    study, parents = write_tiny_study(tmp_path), {}
    with SimulatedCluster(nodes=1, cpus=3, head_cpus=3) as cluster:
        overrides = (*OVERRIDES, f"runtime.use_head={use_head}")
        command = [sys.executable, "-m", "cpt_ray.cli.main", "run", str(study.config), *overrides]
        log = tmp_path / "driver.log"
        with log.open("wb") as out:
            driver = subprocess.Popen(command, env=cluster.environment, stdout=out, stderr=out)
        while driver.poll() is None:
            parents |= parents_in(cluster)
            time.sleep(0.1)
        assert driver.returncode == 0, log.read_text()[-3000:]
        raylet = cluster.raylet(0)
    prepared = {json.loads(path.read_text())["pid"] for path in study.root.glob("*/*/units/*/*.json")}
    trained = {pid for path in study.root.glob("train/*/run.json") for pid in RunRecord.load(path).training.worker_pids}
    scored = {EvalRecord.load(path).task_pid for path in study.root.glob("evaluate/*/evaluation.json")}
    assert min(map(len, (prepared, trained, scored))) >= 1
    on_the_head = {pid for pid in prepared | trained | scored if parents[pid] != raylet}
    assert bool(on_the_head) is use_head
