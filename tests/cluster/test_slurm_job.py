"""The Slurm job, run by bash as Slurm would: Ray on two nodes, the signal before the time limit, the job that continues."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cpt_ray.records import Comparison
from tests.cluster.cluster_files import FOLDER
from tests.integration.test_job_submit import of_this_head
from tests.integration.tiny_study import TinyStudy, write_tiny_study

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.full, pytest.mark.accept(cluster=4)]

# What Slurm's commands do here, where both nodes are this machine.
COMMANDS = {
    "scontrol": 'if [ "$1" = show ]; then printf "one\\ntwo\\n"; else echo "$@" >> "$REQUEUED"; fi',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "hostname": "echo 127.0.0.1",
}


class Job:
    """A submitted job: its folder of fake commands, and how it is started."""

    def __init__(self, folder: Path, study: TinyStudy) -> None:
        self.number = random.SystemRandom().randrange(10_000, 1_000_000)
        self.requeued, self.temporary = folder / "requeued", Path(f"/tmp/ray-{self.number}")
        (folder / ".venv").symlink_to(sys.prefix)
        commands = folder / "bin"
        commands.mkdir()
        for name, body in COMMANDS.items():
            (commands / name).write_text(f"#!/bin/bash\n{body}\n")
            (commands / name).chmod(0o755)
        self.folder, self.study = folder, study
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "PATH": f"{commands}:{os.environ['PATH']}",
            "REQUEUED": str(self.requeued),
            "SLURM_JOB_ID": str(self.number),
            "SLURM_JOB_NODELIST": "[one-two]",
            "SLURM_CPUS_PER_TASK": "2",
        }

    def start(self) -> subprocess.Popen[str]:
        command = ["bash", str(FOLDER / "slurm.sbatch"), str(self.study.config)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )


def wait_for(found, process, seconds):
    deadline = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_study_is_saved_before_the_time_limit_queued_again_and_finished(tmp_path, record_property):
    study = write_tiny_study(tmp_path / "study")
    tree = yaml.safe_load(study.config.read_text())
    study.change(runtime={**tree["runtime"], "workers": 2})
    job = Job(tmp_path, study)

    first = job.start()
    wait_for(lambda: any(study.root.glob("train/*/metrics/attempt-*.jsonl")), first, 300)
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=120)[0]
    assert first.returncode == 130, said[-3000:]
    assert job.requeued.read_text() == f"requeue {job.number}\n"
    assert of_this_head(job.temporary) == []

    second = job.start()
    said = second.communicate(timeout=400)[0]
    assert second.returncode == 0, said[-3000:]
    assert Comparison.of(study.root).deltas
    assert of_this_head(job.temporary) == []
    record_property("Slurm-like launch", "2 nodes; saved on SIGTERM, queued again, finished by the second job")


def test_a_job_without_a_study_says_how_it_is_called(tmp_path):
    ran = subprocess.run(["bash", str(FOLDER / "slurm.sbatch")], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr.startswith("usage: sbatch cluster/slurm.sbatch")) == (2, True)
