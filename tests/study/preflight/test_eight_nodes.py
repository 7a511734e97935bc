"""Eight nodes are asked before a study begins, in the time that their processes take to start."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.chaos.cluster import SimulatedCluster
from tests.integration.tiny_study import write_tiny_study

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.full, pytest.mark.accept(cluster=4), pytest.mark.timeout(600)]
LIMIT_S = 20


def test_eight_nodes_are_asked_within_twenty_seconds(tmp_path, record_property):
    study = write_tiny_study(tmp_path / "study")
    with SimulatedCluster(nodes=8, cpus=1) as cluster:
        command = [sys.executable, "-m", "cpt_ray.cli.main", "prepare", str(study.config), "runtime.kind=ray"]
        done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    (found,) = re.findall(r"nodes: (\d+) asked in ([\d.]+) s, all ready", done.stdout + done.stderr)
    assert int(found[0]) == 9  # with the head
    record_property("eight nodes asked", f"{found[0]} simulated nodes of one machine asked in {found[1]} s")
    assert float(found[1]) < LIMIT_S
