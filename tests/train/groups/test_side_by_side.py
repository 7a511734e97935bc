"""A trunk, its two branches and a control in two groups of workers: at the same time, and the same weights as one by one.

The control is short, so its group waits for the first branch and takes it while the trunk goes on.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ArtifactError, TrainingError, TrainingStopped
from cpt_ray.records import RunAttempt, RunRecord
from cpt_ray.train.checkpoint import committed
from cpt_ray.train.task import TrainTask
from tests.train.groups.told import Told
from tests.train.tiny_run import make_task, spec_named, tiny_config, weights

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.accept(cluster=2), pytest.mark.usefixtures("ray_session_2cpu")]

TRUNK, SMALL, LARGE, CONTROL = range(4)
SETTINGS = {"checkpoint_every": 2000, "keep_checkpoints": 99, "micro_batch_size": 2}


def make_tasks(root: Path, folder: str) -> list[TrainTask]:
    """Trunk, two branches, control; in folders below `root/folder`, with a lease of their own."""
    long = tiny_config(root, budgets=[2000, 48_000], **SETTINGS)
    short = tiny_config(root, budgets=[2500], **SETTINGS)
    specs = [spec_named(long, part) for part in ("legal-trunk", "legal-2000", "legal-48000")]
    place = root / folder
    for shared in ("model", "shards"):
        place.mkdir(exist_ok=True)
        (place / shared).symlink_to(root / shared)
    parent = place / specs[0].name
    tasks = [make_task(place, long, spec, spec.name, parent if spec.parent else None) for spec in specs]
    return [*tasks, make_task(place, short, spec_named(short, "control"), "control")]


def launch(tasks: list[TrainTask], *, groups: int, **runtime) -> Told:
    from cpt_ray.train.groups.launch import run_training

    told = Told()
    folder = Path(tasks[0].run_folder).parent
    run_training(
        tasks,
        name=f"{folder.name}-{os.getpid()}-{time.monotonic_ns()}",
        runtime=RuntimeConfig(kind="ray", workers=1, parallel_runs=groups, **runtime),
        storage=folder / "ray",
        observer=told,
    )
    return told


def records(tasks: list[TrainTask]) -> list[RunRecord]:
    return [RunRecord.of(task.run_folder) for task in tasks]


def attempts(task: TrainTask) -> list[RunAttempt]:
    return [RunAttempt.load(path) for path in sorted(Path(task.run_folder).glob("attempts/attempt-*.json"))]


def steps_of(task: TrainTask, attempt: int) -> int:
    """How many steps an attempt has done."""
    return (Path(task.run_folder) / "metrics" / f"attempt-{attempt:04d}.jsonl").read_bytes().count(b"\n")


def commits(task: TrainTask) -> int:
    return len(committed.committed(Path(task.run_folder)))


def two_train(tasks: list[TrainTask]) -> bool:
    """Whether the trunk has two checkpoints and its first branch trains beside it."""
    return commits(tasks[TRUNK]) >= 2 and bool(attempts(tasks[SMALL]))


def interval(task: TrainTask) -> int:
    """The most steps of a finished run between two checkpoints, its beginning and its end."""
    training = RunRecord.of(task.run_folder).training
    saved = [manifest.progress.step for _, manifest in committed.committed(Path(task.run_folder))]
    return max(
        later - before for before, later in itertools.pairwise([training.first_steps[0], *saved, training.progress.step])
    )


def in_vain(task: TrainTask) -> int:
    """Steps of a finished run that its attempts did and a later one did again."""
    training = RunRecord.of(task.run_folder).training
    done = sum(steps_of(task, attempt.attempt) for attempt in training.attempts)
    return done - (training.progress.step - training.first_steps[0])


def since_checkpoint(task: TrainTask) -> int:
    """Steps that the first attempt of a run has done since its newest checkpoint."""
    return steps_of(task, 1) - committed.committed(Path(task.run_folder))[-1][1].progress.step


def overlap(one: RunRecord, other: RunRecord) -> bool:
    (start, end), (other_start, other_end) = one.training.interval, other.training.interval
    assert start < end
    assert other_start < other_end
    return start < other_end and other_start < end


def beside(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """A thread that acts once a condition holds."""

    def wait() -> None:
        end = time.monotonic() + 300
        while time.monotonic() < end:
            if condition():
                return act()
            time.sleep(0.01)
        return None

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def require_same_weights(tasks: list[TrainTask], others: list[TrainTask]) -> None:
    for place in (SMALL, LARGE, CONTROL):
        mine, theirs = (weights(RunRecord.of(group[place].run_folder).export_path) for group in (tasks, others))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), tasks[place].spec.name


@pytest.fixture(scope="module")
def serial(root) -> list[TrainTask]:
    """The runs one after another, in one group."""
    tasks = make_tasks(root, "serial")
    told = launch(tasks, groups=1)
    assert told.started == [TRUNK, LARGE, CONTROL, SMALL]
    done = records(tasks)
    assert len({record.training.worker_pids for record in done}) == 1  # the group served them all
    assert not any(overlap(one, other) for one in done for other in done if one is not other)
    return tasks


@pytest.mark.full  # groups side by side: tests/integration/test_whole_study.py
def test_two_groups_overlap_and_give_the_same_weights(root, serial):
    tasks = make_tasks(root, "parallel")
    told = launch(tasks, groups=2)
    trunk, small, large, control = records(tasks)
    assert set(told.records) == {TRUNK, SMALL, LARGE, CONTROL}
    assert overlap(trunk, control)
    assert overlap(trunk, small)  # it did not wait for the trunk's end
    assert control.training.worker_pids == small.training.worker_pids != trunk.training.worker_pids
    assert all(record.training.first_steps[0] > 0 for record in (small, large))
    require_same_weights(tasks, serial)
    assert not (Path(tasks[0].run_folder).parent / "ray").exists()


@pytest.mark.accept(cluster=5)
@pytest.mark.full  # a worker that is killed alone: test_launch.py
def test_a_killed_worker_of_one_group_leaves_the_other_alone(root, serial, record_property):
    tasks = make_tasks(root, "killed")
    killed: list[int] = []
    when: list[float] = []

    def kill() -> None:
        killed.extend(attempts(tasks[TRUNK])[0].worker_pids)
        os.kill(killed[0], signal.SIGKILL)
        when.append(time.time())

    killer = beside(lambda: two_train(tasks) and since_checkpoint(tasks[TRUNK]) >= 1, kill)
    launch(tasks, groups=2, max_failures=1)
    killer.join()
    trunk, small, _, control = records(tasks)
    assert attempts(tasks[TRUNK])[0].worker_pids == tuple(killed)
    assert len(trunk.training.attempts) == 2
    assert trunk.training.last.resumed
    assert trunk.training.last.first_step > 0
    assert (len(small.training.attempts), len(control.training.attempts)) == (1, 1)
    require_same_weights(tasks, serial)
    back_s = (Path(tasks[TRUNK].run_folder) / "attempts" / "attempt-0002.json").stat().st_mtime - when[0]
    lost = in_vain(tasks[TRUNK])
    assert 1 <= lost <= 2 * interval(tasks[TRUNK])  # since its checkpoint, and the one that was being uploaded
    assert [in_vain(tasks[place]) for place in (SMALL, CONTROL)] == [0, 0]
    record_property("one group's worker killed", f"trains after {back_s:.0f} s; {lost} steps lost; the other group untouched")


@pytest.mark.full  # of one group: test_launch.py
def test_an_interrupt_saves_every_group_and_the_same_runs_go_on(root, serial):
    tasks = make_tasks(root, "stopped")
    main = threading.main_thread().ident
    stopper = beside(lambda: two_train(tasks), lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(TrainingStopped, match="stopped at step"):
        launch(tasks, groups=2)
    stopper.join()
    assert not tasks[TRUNK].finished
    _, saved = committed.newest(Path(tasks[TRUNK].run_folder))
    assert not tasks[LARGE].finished
    launch(tasks, groups=2)
    trunk = records(tasks)[TRUNK]
    assert trunk.training.first_steps == (0, saved.progress.step)
    require_same_weights(tasks, serial)


@pytest.mark.full  # what is trained after a failure: test_queue.py
def test_a_refused_run_is_raised_when_the_others_are_done(root, serial, caplog):
    tasks = make_tasks(root, "refused")
    shards = Path(tasks[TRUNK].run_folder).parent / "broken"
    shutil.copytree(root / "shards", shards)
    for shard in shards.glob("*/*.arrow"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    tasks[CONTROL] = tasks[CONTROL].model_copy(update={"shards_folder": str(shards)})
    with pytest.raises(ArtifactError, match=r"\.arrow: sha256 \w+, but its manifest says"):
        launch(tasks, groups=2)
    assert [task.finished for task in tasks] == [True, True, True, False]
    assert "the other groups go on, and the command ends with this error" in caplog.text
    for place in (SMALL, LARGE):
        mine, theirs = (weights(RunRecord.of(group[place].run_folder).export_path) for group in (tasks, serial))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.accept(cluster=5)
@pytest.mark.full
def test_a_controller_of_ray_that_is_killed_is_named_and_the_same_runs_go_on(root, serial, record_property):
    tasks = make_tasks(root, "controller")
    killed_at: list[float] = []

    def kill() -> None:
        # Looking through the processes takes longer than the steps to the next checkpoint.
        found = [one for one in psutil.Process().children(recursive=True) if "TrainController" in " ".join(one.cmdline())]
        assert len(found) >= 2
        while since_checkpoint(tasks[TRUNK]) < 1:
            time.sleep(0.001)
        for one in found:
            one.kill()
        killed_at.append(time.monotonic())

    killer = beside(lambda: two_train(tasks), kill)
    with pytest.raises(TrainingError, match="Ray's training controller is gone") as error:
        launch(tasks, groups=2)
    said_s = time.monotonic() - killed_at[0]
    killer.join()
    assert "re-run the same command to resume" in error.value.fix
    launch(tasks, groups=2)
    first = records(tasks)[TRUNK].training.first_steps[1]
    assert first > 0
    lost = [in_vain(task) for task in tasks]
    assert lost[TRUNK] >= 1
    assert all(steps <= 2 * interval(task) for steps, task in zip(lost, tasks, strict=True))
    figures = f"said after {said_s:.0f} s; run again, the trunk from step {first}; {sum(lost)} steps lost"
    record_property("training controllers killed", figures)
    require_same_weights(tasks, serial)


@pytest.mark.full
def test_failures_are_counted_for_each_group(root):
    tasks = make_tasks(root, "failing")[TRUNK:SMALL]

    def kill() -> None:
        os.kill(attempts(tasks[TRUNK])[-1].worker_pids[0], signal.SIGKILL)

    killers = [beside(lambda number=number: len(attempts(tasks[TRUNK])) >= number, kill) for number in (1, 2)]
    with pytest.raises(TrainingError, match=r"trunk-seed0: .*workers failed more than 1 times"):
        launch(tasks, groups=2, max_failures=1)
    for killer in killers:
        killer.join()
