"""Workers under Ray Train: a killed one, a refusal, and the same run in the driver process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ArtifactError, TrainingStopped
from cpt_ray.records import RunAttempt, RunRecord
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.monitor.metrics import read_metrics
from tests.train.groups.told import Told
from tests.train.tiny_run import make_task, spec_named, tiny_config

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session_2cpu")]

BUDGET = 8000
SETTINGS = {"budgets": [BUDGET], "checkpoint_every": 500, "keep_checkpoints": 99, "micro_batch_size": 2}
TWO_WORKERS = RuntimeConfig(kind="ray", workers=2)
HERE = RuntimeConfig(kind="local")


def launch(root: Path, folder: str, runtime: RuntimeConfig = TWO_WORKERS) -> tuple[RunRecord, Told]:
    """Run the budget in `folder`."""
    from cpt_ray.train.groups.launch import run_training

    config = tiny_config(root, **SETTINGS)
    task = make_task(root, config, spec_named(config, f"legal-{BUDGET}"), folder)
    told = Told()
    name = f"{folder}-{os.getpid()}"
    run_training([task], name=name, runtime=runtime, storage=root / f"ray-{folder}", observer=told)
    return told.records[0], told


@pytest.fixture(scope="module")
def undisturbed(root) -> RunRecord:
    record, told = launch(root, "undisturbed")
    assert told.started == [0]
    assert told.steps[0][-1] == record.training.progress.step > 20
    return record


def attempts(folder: Path) -> list[RunAttempt]:
    return [RunAttempt.load(path) for path in sorted((folder / "attempts").glob("attempt-*.json"))]


def kill_after(folder: Path, *, checkpoints: int, rank: int, killed: list[int]) -> None:
    """Wait for the run's `checkpoints`-th commit, then kill one worker with SIGKILL."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if len(list(folder.glob("checkpoints/step-*/manifest.json"))) >= checkpoints:
            pid = attempts(folder)[0].worker_pids[rank]
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return
        time.sleep(0.005)


def test_two_workers_train_a_run_to_its_budget(undisturbed):
    assert undisturbed.training.world_sizes == (2,)
    assert len(set(undisturbed.training.worker_pids)) == 2
    assert os.getpid() not in undisturbed.training.worker_pids
    assert BUDGET <= undisturbed.tokens_seen < BUDGET + 4 * 64
    assert undisturbed.training.first_steps == (0,)


def test_a_killed_worker_is_followed_by_a_resume_that_equals_an_undisturbed_run_bitwise(root, undisturbed):
    killed: list[int] = []
    killer = threading.Thread(
        target=kill_after, args=(root / "killed",), kwargs={"checkpoints": 2, "rank": 1, "killed": killed}
    )
    killer.start()
    record, _ = launch(root, "killed")
    killer.join()
    first, second = attempts(root / "killed")
    assert killed == [first.worker_pids[1]]
    assert len(record.training.attempts) == 2
    assert (first.first_step, first.resumed) == (0, False)
    assert second.resumed
    assert 0 < second.first_step < record.training.progress.step
    assert record.training.first_steps == (0, second.first_step)
    assert not set(first.worker_pids) & set(second.worker_pids)

    assert record.training.progress.step == undisturbed.training.progress.step
    assert (record.tokens_seen, record.training.progress.slots_seen, record.training.progress.position) == (
        undisturbed.tokens_seen,
        undisturbed.training.progress.slots_seen,
        undisturbed.training.progress.position,
    )
    pair = [read_metrics(root / name) for name in ("undisturbed", "killed")]
    facts = [[(m.step, m.sample_ids, m.tokens_seen, m.loss, m.gradient_norm, m.learning_rate) for m in run] for run in pair]
    assert facts[0] == facts[1]
    weights = [load_file(Path(r.export_path) / "model.safetensors") for r in (undisturbed, record)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_driver_was_not_left_with_rays_own_storage(root, undisturbed):
    assert not (root / "undisturbed" / "ray").exists()
    assert checkpoint.newest(root / "undisturbed") is not None


def test_one_process_without_ray_gives_the_same_rows_and_losses(root, undisturbed):
    record, told = launch(root, "here", HERE)
    assert record.training.worker_pids == (os.getpid(),)
    assert told.steps[0][-1] == record.training.progress.step
    pair = [read_metrics(root / name) for name in ("undisturbed", "here")]
    assert [m.sample_ids for m in pair[0]] == [m.sample_ids for m in pair[1]]
    assert [m.tokens_seen for m in pair[0]] == [m.tokens_seen for m in pair[1]]
    assert [m.loss for m in pair[0]] == pytest.approx([m.loss for m in pair[1]], abs=1e-5)


def test_a_stop_before_a_run_began_is_no_success(root, tmp_path, monkeypatch):
    for name in ("model", "shards"):
        (tmp_path / name).symlink_to(root / name)
    config = tiny_config(tmp_path, **SETTINGS)
    task = make_task(tmp_path, config, spec_named(config, f"legal-{BUDGET}"), "stopped")
    from cpt_ray.train.groups import launch

    @contextlib.contextmanager
    def stop_at_once(stop):
        stop()
        yield

    monkeypatch.setattr(launch, "stop_on_signals", stop_at_once)

    with pytest.raises(TrainingStopped, match=f"stopped before tiny-legal-{BUDGET}-seed0") as error:
        launch.run_training([task], name="stopped", runtime=HERE, storage=tmp_path / "ray", observer=Told())
    assert error.value.exit_code == 130
    assert not (tmp_path / "stopped" / "run.json").exists()


@pytest.mark.full  # tests/train/test_worker.py tests a worker's refusals without Ray
def test_a_refusal_comes_back_as_it_was_raised_and_nothing_is_restarted(root, tmp_path):
    for name in ("model", "shards"):
        shutil.copytree(root / name, tmp_path / name)
    for shard in (tmp_path / "shards").glob("*/*.arrow"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"\.arrow: sha256 \w+, but its manifest says") as error:
        launch(tmp_path, "refused")
    assert "it will be rebuilt" in error.value.fix
    assert len(attempts(tmp_path / "refused")) == 1
    assert not (tmp_path / "refused" / "run.json").exists()
    assert checkpoint.newest(tmp_path / "refused") is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_for_a_stop_and_the_second_ends_at_once(capsys, number):
    from cpt_ray.train.groups.launch import stop_on_signals

    before = signal.getsignal(number)
    told = threading.Event()
    with pytest.raises(KeyboardInterrupt), stop_on_signals(told.set):
        # Not `os.kill`: the kernel may give that signal to one of Ray's threads, after this test has restored the default.
        signal.raise_signal(number)
        assert told.wait(20)
        assert "stopping: the workers save a checkpoint first" in capsys.readouterr().err
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.full  # starts a group twice; the parts: test_queue.py, test_serve.py
def test_a_worker_that_refuses_alone_is_heard_at_once(root, monkeypatch):
    """The others wait for it in a collective, and must not wait until that times out."""
    from cpt_ray.train.groups import under_ray

    def work(config):
        import torch.distributed as dist

        import cpt_ray.train.worker
        from cpt_ray.errors import ArtifactError
        from cpt_ray.train.groups.serve import serve
        from cpt_ray.train.task import TrainTask

        def run_worker(task, *, tell, ask_preemption):
            if dist.get_rank() == 0:
                cpt_ray.train.worker.held = dist.group.WORLD  # as an engine does, which keeps its connections open
                raise ArtifactError("the disk of this node alone is full", fix="free space there")
            dist.barrier()

        cpt_ray.train.worker.run_worker = run_worker
        serve(config["queue"], config["group"], [TrainTask.from_json(text) for text in config["tasks"]])

    monkeypatch.setattr(under_ray, "_work", work)
    started = time.monotonic()
    with pytest.raises(ArtifactError, match="the disk of this node alone is full"):
        launch(root, "refuses-alone")
    assert time.monotonic() - started < TWO_WORKERS.collective_timeout / 2
