"""When a checkpoint is due, and what a requested one records; the engine is a fake, the files are real."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from cpt_ray.edges.lease import Lease
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import LeaseError, TrainingStopped
from cpt_ray.records import RunProgress
from cpt_ray.train import shutdown
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.checkpoint.saver import Saver
from cpt_ray.train.checkpoint.snapshot import read_times
from cpt_ray.train.shutdown import Preemption
from tests.run_specs import make_spec
from tests.train.checkpoint.manifests import FIGURES
from tests.train.tiny_run import make_task, tiny_config

pytestmark = pytest.mark.usefixtures("one_worker")


class MadeUpEngine:
    """What a saver needs from an engine; its state is a few bytes."""

    zero_stage = 2
    state_bytes = 7
    lag = 0
    device = torch.device("cpu")

    def save(self, folder: Path) -> None:
        (folder / "state.pt").write_bytes(b"weights")

    def state_figures(self, vocabulary_size):
        assert vocabulary_size == 300
        return FIGURES


def at(tokens):
    return RunProgress(step=tokens // 100, position=tokens // 100, tokens_seen=tokens)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a saver of a run of 2000 tokens with a branch point at 900 and a trajectory mark at 1150."""
    monkeypatch.setattr(shutdown, "_ASK_S", 0.0)
    config = tiny_config(tmp_path, checkpoint_every=500)
    spec = make_spec(2000, arm="legal", branch_tokens=(900,), trajectory_tokens=(1150,))
    task = make_task(tmp_path, config, spec, "run")

    def make(ask_preemption=None, *, stop_wanted=lambda: False):
        saved = []
        saver = Saver(
            task,
            MadeUpEngine(),
            attempt=1,
            vocabulary_size=300,
            stop_wanted=stop_wanted,
            ask_preemption=ask_preemption,
            before_save=saved.append,
        )
        return saver, task, saved

    return make


def test_a_checkpoint_is_due_past_an_interval_a_branch_point_and_a_mark_but_not_at_the_end(make):
    saver, _, _ = make()
    due = [after for after in range(100, 2200, 100) if saver.due(at(after - 100), at(after))]
    assert due == [500, 900, 1000, 1200, 1500]
    assert saver.due(at(800), at(2100))  # a branch point is saved even if the run ends with the same step


def test_what_is_saved_says_why_and_from_what(make):
    saver, task, told = make()
    for tokens in (500, 1000, 1500):  # the branch point at 900 is the reason for one of them
        assert saver.due(at(tokens - 150), at(tokens))
        saver.save(at(tokens))
    saver.drain()
    run = Path(task.run_folder)
    assert [progress.tokens_seen for progress in told] == [500, 1000, 1500]
    assert [(entry.tokens_seen, entry.reason) for entry in read_times(run)] == [
        (500, "interval"),
        (1000, "branch"),
        (1500, "interval"),
    ]
    _, manifest = checkpoint.newest(run)
    assert (manifest.run, manifest.run_fingerprint, manifest.data_fingerprint) == (
        task.spec.name,
        task.fingerprint,
        task.data_fingerprint,
    )
    assert (manifest.zero_stage, manifest.precision, manifest.world_size) == (2, "fp32", 1)
    assert manifest.figures == FIGURES
    assert [entry.path for entry in manifest.files] == ["state.pt"]


def test_a_checkpoint_that_was_asked_for_is_committed_when_save_returns(make):
    wanted = iter([False, True, True, False])
    saver, task, _ = make(stop_wanted=lambda: next(wanted))
    assert saver.requested() is None
    assert saver.requested() == "stop"
    saver.save(at(300))
    run = Path(task.run_folder)
    assert checkpoint.newest(run)[1].progress.tokens_seen == 300
    assert read_times(run)[0].reason == "stop"
    with pytest.raises(TrainingStopped, match="stopped at step 3, 300 tokens, saved"):
        saver.stop_before_training(at(300))
    saver.stop_before_training(at(300))


@pytest.mark.parametrize(("deadline", "warned"), [(-10.0, True), (600.0, False), (None, False)])
def test_a_notice_too_short_for_the_checkpoint_is_warned_of(make, caplog, deadline, warned):
    notice = Preemption(None if deadline is None else time.time() + deadline, ("node-a", "node-b"))
    saver, task, _ = make(lambda: notice)
    assert saver.requested() == "preemption"
    saver.save(at(300))
    assert read_times(Path(task.run_folder))[0].reason == "preemption"
    said = [record.getMessage() for record in caplog.records if "the notice is too short" in record.getMessage()]
    assert len(said) == warned
    assert all("nodes node-a, node-b" in text and "runtime.scratch" in text for text in said)


def test_a_superseded_driver_commits_nothing(make):
    saver, task, _ = make()
    lease = Lease(attempt=2, host="test", pid=2, process_start=0, renewed=0)
    write_atomic(Path(task.lease_path), lease.to_json())
    saver.save(at(500))
    with pytest.raises(LeaseError, match="attempt 1 may no longer write"):
        saver.drain()
    assert checkpoint.newest(Path(task.run_folder)) is None


def test_an_upload_that_failed_ends_the_run_with_its_reason_after_the_next_step(make):
    saver, task, _ = make()
    run = Path(task.run_folder)
    run.mkdir(parents=True)
    (run / checkpoint.FOLDER).write_text("a file where a folder must be")
    saver.save(at(500))
    end = time.monotonic() + 30
    with pytest.raises(Exception, match="checkpoints"):
        while time.monotonic() < end:
            saver.requested()
            time.sleep(0.01)
