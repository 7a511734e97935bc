"""A driver that is interrupted or killed during training, and the same command rerun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpt_ray.cli.main import main
from cpt_ray.edges.lease import FILE, read_lease
from cpt_ray.records import RunAttempt, RunRecord, StudyStatus
from cpt_ray.study.live.status.gather import gather
from cpt_ray.study.live.status.place import Place
from cpt_ray.train.checkpoint.committed import newest
from cpt_ray.train.monitor.metrics import read_metrics
from tests.edges.tracking.test_event_files import scalars
from tests.integration.tiny_study import TinyStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RUN = "tiny-legal-20000-seed0"
OVERRIDES = (
    "train.budgets=[20k]",
    "train.checkpoint_every=1000",
    "train.keep_checkpoints=99",
    "train.precision=fp32",
    "tracking.tensorboard=true",
)


@pytest.fixture(scope="module")
def studies(prepared_study, tmp_path_factory) -> tuple[TinyStudy, TinyStudy]:
    """Two copies of a prepared study with one arm."""
    pair = []
    for name in ("disturbed", "quiet"):
        study = prepared_study.copy(tmp_path_factory.mktemp("killed") / name)
        study.change(arms={"legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}}})
        pair.append(study)
    return pair[0], pair[1]


def start(study: TinyStudy) -> subprocess.Popen[str]:
    """Start the command as a separate process."""
    command = [sys.executable, "-m", "cpt_ray.cli.main", "train", str(study.config), *OVERRIDES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_folder(study: TinyStudy) -> Path:
    return next(study.root.glob(f"train/{RUN}-*"))


def signal_after(study: TinyStudy, driver: subprocess.Popen[str], number: int, *, commits: int) -> None:
    """Send a signal once `commits` checkpoints are committed."""
    end = time.monotonic() + 240
    while len(list(study.root.glob(f"train/{RUN}-*/checkpoints/*/manifest.json"))) < commits:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < end, "no checkpoint was committed"
        time.sleep(0.005)
    driver.send_signal(number)


def attempts(study: TinyStudy) -> list[RunAttempt]:
    return [RunAttempt.load(path) for path in sorted((run_folder(study) / "attempts").glob("attempt-*.json"))]


def status_of(study: TinyStudy) -> StudyStatus:
    """What another shell would be told now."""
    return gather(Place(study.root, True, study.config))


def test_the_same_command_goes_on_after_an_interrupt_and_after_a_kill(studies, capsys):
    disturbed, quiet = studies

    first = start(disturbed)
    signal_after(disturbed, first, signal.SIGINT, commits=2)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "stopping: the workers save a checkpoint first" in said
    assert f"{RUN}: stopped at step " in said
    assert "fix: re-run the same command to resume" in said
    stopped = newest(run_folder(disturbed))[1]
    assert f"stopped at step {stopped.progress.step}, {stopped.progress.tokens_seen} tokens, saved" in said
    assert read_lease(disturbed.root / FILE).released
    status = status_of(disturbed)
    assert (status.state, status.command.outcome) == ("interrupted", "interrupted")

    second = start(disturbed)
    signal_after(
        disturbed, second, signal.SIGKILL, commits=len(list(run_folder(disturbed).glob("checkpoints/*/manifest.json"))) + 4
    )
    second.communicate(timeout=120)
    assert second.returncode == -signal.SIGKILL
    lease = read_lease(disturbed.root / FILE)
    assert (lease.pid, lease.released) == (second.pid, False)  # it had no time to release it
    status = status_of(disturbed)
    (trained,) = (run for run in status.runs if run.state == "training")
    assert (status.state, trained.name, trained.attempts) == ("died", RUN, 2)
    assert 0 < trained.share < 1
    assert any("resume" in event for event in trained.events)
    assert not (run_folder(disturbed) / "run.json").exists()

    for last in [start(study) for study in (disturbed, quiet)]:
        out, err = last.communicate(timeout=240)
        assert last.returncode == 0, err
        assert f"  made    train/{RUN}-" in out

    tries = attempts(disturbed)
    assert [attempt.resumed for attempt in tries] == [False, True, True]
    assert 0 == tries[0].first_step < tries[1].first_step < tries[2].first_step
    assert tries[1].first_step == stopped.progress.step  # no step was lost
    assert attempts(quiet)[0].first_step == 0
    assert read_lease(disturbed.root / FILE).attempt == read_lease(quiet.root / FILE).attempt + 2
    pair = [RunRecord.load(run_folder(study) / "run.json") for study in studies]
    assert pair[0].training.first_steps == tuple(attempt.first_step for attempt in tries)
    assert [(r.tokens_seen, r.training.progress.position, r.training.progress.step) for r in pair[:1]] == [
        (r.tokens_seen, r.training.progress.position, r.training.progress.step) for r in pair[1:]
    ]
    steps = [[(m.step, m.sample_ids, m.tokens_seen, m.loss) for m in read_metrics(run_folder(s))] for s in studies]
    assert len(steps[0]) == pair[0].training.progress.step > 50
    assert steps[0] == steps[1]
    curve = [
        (tokens, value) for key, tokens, value in scalars(disturbed.root, run_folder(disturbed).name) if key == "train/loss"
    ]
    assert curve == [(m.tokens_seen, pytest.approx(m.loss)) for m in read_metrics(run_folder(disturbed))]
    weights = [load_file(Path(record.export_path) / "model.safetensors") for record in pair]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.accept(training=5)
def test_a_second_driver_is_refused_while_the_first_is_at_work(prepared_study, tmp_path, capsys, record_property):
    study = prepared_study.copy(tmp_path / "shared")
    driver = start(study)
    try:
        end = time.monotonic() + 240
        while (lease := read_lease(study.root / FILE)) is None or lease.pid != driver.pid:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < end, "the driver never took its lease"
            time.sleep(0.01)
        assert main(["train", str(study.config), *OVERRIDES]) == 2
        said = capsys.readouterr().err
        assert f"another driver is running this study (process {driver.pid} on " in said
        assert "fix: wait for it, stop it, or set study.root to another folder" in said
        assert read_lease(study.root / FILE).attempt == lease.attempt
        record_property("second driver", said.splitlines()[0])
    finally:
        driver.kill()
        driver.communicate()
