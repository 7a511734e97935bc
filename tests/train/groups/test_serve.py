"""A group's worker trains what the queue gives it, one run after another, and ends with a refusal."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpt_ray.errors import TrainingError, TrainingStopped
from cpt_ray.records import RunRecord
from cpt_ray.train.groups import serve as module
from cpt_ray.train.groups.queue import RunQueue
from cpt_ray.train.groups.serve import serve
from tests.train.tiny_run import make_task, spec_named, tiny_config


def make_tasks(root: Path, folder: str, **train):
    config = tiny_config(root, budgets=[600, 1200], **train)
    specs = [spec_named(config, part) for part in ("legal-trunk", "legal-600", "legal-1200")]
    parent = root / folder / specs[0].name
    return [make_task(root, config, spec, f"{folder}/{spec.name}", parent if spec.parent else None) for spec in specs]


def test_runs_are_trained_in_the_order_of_the_queue_and_branches_find_their_trunk(root):
    tasks = make_tasks(root, "served")
    queue = RunQueue(tasks)
    assert queue.open(0)
    assert serve(queue, 0, tasks) is None
    trunk, small, large = (RunRecord.of(task.run_folder) for task in tasks)
    assert trunk.training.first_steps == (0,)
    assert 0 < small.training.first_steps[0] < large.training.first_steps[0]
    assert trunk.training.ended < large.training.interval[0] < large.training.ended < small.training.interval[0]
    assert not RunQueue(tasks).open(0)
    assert {(beat.rank, beat.phase) for place in range(3) for beat in queue.beats(place)} == {(0, "end")}


def test_a_stop_that_the_queue_was_asked_for_reaches_a_run_in_training(root, monkeypatch):
    from cpt_ray.train.monitor import heartbeat
    from cpt_ray.train.worker import Watch

    monkeypatch.setattr(heartbeat, "_EVERY_S", 0.01)
    tasks = make_tasks(root, "stopped")
    queue, log = RunQueue(tasks), Watch.log

    def log_and_stop(self, metrics):
        log(self, metrics)
        queue.stop()
        while not self.stop_wanted():
            time.sleep(0.01)

    monkeypatch.setattr(Watch, "log", log_and_stop)
    assert queue.open(0)
    refusal = serve(queue, 0, tasks)
    assert isinstance(refusal, TrainingStopped)
    assert "stopped at step 1, " in refusal.problem


def test_a_refusal_is_returned_and_nothing_is_trained_after_it(root):
    tasks = make_tasks(root, "refused")
    tasks[0] = tasks[0].model_copy(update={"lease_attempt": 9})
    queue = RunQueue(tasks)
    assert queue.open(0)
    refusal = serve(queue, 0, tasks)
    assert "attempt 9 may no longer write" in str(refusal)
    assert not any(task.finished for task in tasks)


def test_what_may_become_ready_is_asked_for_again(monkeypatch):
    answers = iter(["wait", "wait", "end"])
    asked = []

    class Turns:
        def take(self, group, after):
            asked.append((group, after))
            return next(answers)

    monkeypatch.setattr(module, "_ASK_S", 0.0)
    assert serve(Turns(), 3, []) is None
    assert asked == [(3, None)] * 3


def test_a_defect_is_raised_for_ray_to_start_the_group_again():
    class Turns:
        def take(self, group, after):
            raise ConnectionError("the queue is gone")

    with pytest.raises(ConnectionError):
        serve(Turns(), 0, [])
    assert not issubclass(ConnectionError, TrainingError)


ALONE = """
import datetime, sys, types
import torch.distributed as dist
from cpt_ray.errors import ArtifactError
from cpt_ray.train import worker
from cpt_ray.train.groups.serve import serve

rank = int(sys.argv[1])
wait = datetime.timedelta(seconds=300)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2, timeout=wait)
dist.barrier()  # both have met before one leaves

class Turns:
    def take(self, group, after):
        return 0

    def refuse(self, group, error):
        print("refused:", error.problem, flush=True)

    def beat(self, place, beat):
        return False

def run_worker(task, *, tell, ask_preemption):
    if rank == 0:
        raise ArtifactError("the disk of this node is full", fix="")
    dist.barrier()

worker.run_worker = run_worker
try:
    serve(Turns(), 0, [types.SimpleNamespace(model_folder=None, run_folder=None, parent_folder=None)])
except RuntimeError:
    print("failed at once", flush=True)
sys.stdin.read()  # a worker of Ray lives on after its function has ended
"""


def test_who_refuses_alone_does_not_keep_the_others_waiting(tmp_path):
    command = [sys.executable, "-c", ALONE]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "meet")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    try:
        assert ranks[0].stdout.readline() == "refused: the disk of this node is full\n"
        assert ranks[1].stdout.readline() == "failed at once\n"
        assert ranks[0].poll() is None
    finally:
        for one in ranks:
            one.kill()
            one.communicate()
