"""Which run a group is given: ready ones first, the longest path first, and the same answer to every worker."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ArtifactError
from cpt_ray.records import Heartbeat, RunProgress
from cpt_ray.train.groups import queue as module
from cpt_ray.train.groups.queue import RunQueue, path_lengths
from cpt_ray.train.runs.specs import plan_runs
from tests.train.checkpoint.manifests import committed_at
from tests.train.tiny_run import make_task, spec_named, tiny_config

TRUNK, SMALL, LARGE, CONTROL = range(4)


@pytest.fixture
def tasks(root, tmp_path):
    """A trunk, two branches at 1500 and 6000 tokens, and a control of 8000."""
    shutil.copytree(root / "model", tmp_path / "model")
    config = tiny_config(tmp_path, budgets=[2000, 8000], schedule={"warmup": 200, "cooldown_share": 0.25})
    specs = plan_runs(config)
    assert [spec.kind for spec in specs] == ["trunk", "cooldown", "cooldown", "independent"]
    folders = {spec.name: tmp_path / spec.name for spec in specs}
    return [make_task(tmp_path, config, spec, spec.name, folders.get(spec.parent)) for spec in specs]


def save(task, tokens: int) -> None:
    """Commit a checkpoint."""
    progress = RunProgress(step=tokens, position=tokens, tokens_seen=tokens)
    committed_at(Path(task.run_folder), tokens, progress=progress)


def end(task) -> None:
    """Let a run be finished."""
    write_atomic(Path(task.run_folder) / "run.json", "{}")


def test_a_path_is_as_long_as_what_can_only_follow_it(tasks):
    size = path_lengths(tasks)[CONTROL] / 8000
    assert size > 1000
    assert [length / size for length in path_lengths(tasks)] == [8000, 500, 2000, 8000]


def test_trunk_and_control_begin_together_and_a_branch_when_its_checkpoint_is_committed(tasks):
    queue = RunQueue(tasks)
    assert queue.wanted() == 2
    assert [queue.open(group) for group in (0, 1, 2)] == [True, True, False]
    assert (queue.take(0, None), queue.take(1, None)) == (TRUNK, CONTROL)
    assert queue.given() == [TRUNK, CONTROL]
    save(tasks[TRUNK], 1499)
    assert queue.wanted() == 0
    save(tasks[TRUNK], 1502)
    assert queue.wanted() == 1
    assert queue.open(3)
    assert queue.take(3, None) == SMALL
    assert queue.wanted() == 0


def test_one_group_serves_all_runs_and_then_ends(tasks):
    queue = RunQueue(tasks)
    assert queue.open(0)
    served, turn = [], queue.take(0, None)
    while turn != "end":
        served.append(turn)
        save(tasks[turn], tasks[turn].spec.stop_tokens)
        end(tasks[turn])
        turn = queue.take(0, turn)
    assert served == [TRUNK, CONTROL, LARGE, SMALL]


def test_all_workers_of_a_group_get_the_same_answers_also_after_a_restart(tasks):
    queue = RunQueue(tasks)
    queue.open(0)
    assert {queue.take(0, None) for _ in range(3)} == {TRUNK}
    end(tasks[TRUNK])
    assert [queue.take(0, TRUNK) for _ in range(2)] == [CONTROL, CONTROL]
    assert queue.take(0, None) == CONTROL  # a worker that was started again
    end(tasks[CONTROL])
    assert [queue.take(0, None), queue.take(0, CONTROL)] == [LARGE, LARGE]


def test_a_group_waits_for_a_branch_as_long_as_starting_another_takes(tasks, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    queue = RunQueue(tasks)
    queue.open(0)
    queue.open(1)
    assert queue.take(0, None) == TRUNK
    end(tasks[CONTROL])
    assert queue.take(1, CONTROL) == "wait"
    save(tasks[TRUNK], 1502)
    assert queue.wanted() == 0  # the group that waits will take it
    assert queue.take(1, CONTROL) == SMALL
    end(tasks[SMALL])
    assert queue.take(1, SMALL) == "wait"
    now[0] += module.PATIENCE_S
    assert [queue.take(1, SMALL), queue.take(1, SMALL)] == ["end", "end"]
    save(tasks[TRUNK], 6001)
    assert queue.take(1, None) == "end"  # its other workers have left
    queue.close(1, failed=False)
    end(tasks[TRUNK])
    assert queue.wanted() == 1


def test_no_group_is_started_for_the_branch_at_a_trunks_end_which_its_own_group_takes_at_once(tasks):
    queue = RunQueue(tasks)
    assert [queue.open(group) for group in (0, 1)] == [True, True]
    end(tasks[CONTROL])
    save(tasks[TRUNK], 1502)
    assert queue.take(1, CONTROL) == SMALL
    save(tasks[TRUNK], 6001)  # the trunk's last checkpoint; its group is about to write its record
    assert queue.wanted() == 0
    assert not queue.open(2)
    end(tasks[TRUNK])
    assert queue.wanted() == 1
    assert queue.take(0, TRUNK) == LARGE


def test_the_branch_at_the_end_of_a_failed_trunk_gets_a_group(tasks):
    queue = RunQueue(tasks)
    assert queue.open(0)
    save(tasks[TRUNK], 6001)
    queue.close(0, failed=True)
    assert queue.wanted() == 3
    assert queue.open(1)
    assert queue.take(1, None) == CONTROL


def test_what_can_only_follow_a_failed_run_is_not_waited_for(tasks):
    queue = RunQueue(tasks)
    queue.open(0)
    queue.open(1)
    save(tasks[TRUNK], 1502)
    queue.close(0, failed=True)
    end(tasks[CONTROL])
    assert queue.take(1, CONTROL) == SMALL  # its checkpoint was committed before
    end(tasks[SMALL])
    assert queue.take(1, SMALL) == "end"
    assert queue.run_of(0) == TRUNK
    assert queue.run_of(1) == SMALL


def test_after_a_stop_no_group_gets_another_run(tasks):
    queue = RunQueue(tasks)
    queue.open(0)
    end(tasks[TRUNK])
    queue.stop()
    assert queue.wanted() == 0
    assert queue.take(0, TRUNK) == "end"


def test_a_worker_is_told_of_a_stop_when_it_says_that_it_is_alive(tasks):
    queue = RunQueue(tasks)
    queue.open(0)
    assert queue.beats(TRUNK) == ()
    assert not queue.beat(TRUNK, alive(0, moves=1))
    queue.stop()
    assert queue.beat(TRUNK, alive(1, moves=1))
    assert queue.beat(TRUNK, alive(0, moves=2))
    assert [(one.rank, one.moves) for one in queue.beats(TRUNK)] == [(0, 2), (1, 1)]
    assert queue.beats(CONTROL) == ()
    assert queue.take(0, TRUNK) in (TRUNK, "end")
    assert queue.wanted() == 0


def test_a_heartbeat_does_not_wait_for_a_store(tasks, monkeypatch):
    away, asked = threading.Event(), threading.Event()

    def slow(folder):
        asked.set()
        away.wait(20)
        return []

    queue = RunQueue(tasks)
    queue.open(0)
    monkeypatch.setattr(module, "committed", slow)
    looking = threading.Thread(target=queue.wanted)
    looking.start()
    assert asked.wait(20)
    assert not queue.beat(TRUNK, alive(0, moves=1))
    assert len(queue.beats(TRUNK)) == 1
    assert looking.is_alive()
    away.set()
    looking.join()


def test_workers_of_an_earlier_start_of_a_smaller_group_are_not_waited_for(tasks):
    queue = RunQueue(tasks)
    for rank in range(4):
        queue.beat(TRUNK, alive(rank, moves=9, world_size=4, time=1.0))
    for rank in range(2):
        queue.beat(TRUNK, alive(rank, moves=1, world_size=2, time=2.0))
    assert [(one.rank, one.world_size) for one in queue.beats(TRUNK)] == [(0, 2), (1, 2)]


def alive(rank: int, *, moves: int, world_size: int = 2, time: float = 0.0) -> Heartbeat:
    return Heartbeat(
        rank=rank, world_size=world_size, host="here", pid=100 + rank, phase="steps", step=moves, moves=moves, time=time
    )


def test_runs_that_earlier_commands_finished_are_passed_over(tasks):
    end(tasks[TRUNK])
    end(tasks[LARGE])
    queue = RunQueue(tasks)
    assert queue.wanted() == 2
    assert queue.open(0)
    assert queue.take(0, None) == CONTROL
    assert queue.open(1)
    assert queue.take(1, None) == SMALL
    assert not queue.open(2)


def test_a_group_whose_worker_refused_is_given_no_more(root):
    config = tiny_config(root, budgets=[8000])
    tasks = [make_task(root, config, spec_named(config, arm), f"refusing/{arm}") for arm in ("legal", "control")]
    queue = RunQueue(tasks)
    assert queue.open(0)
    assert queue.refusal(0) is None
    queue.refuse(0, ArtifactError("the disk of one node is full", fix="free space"))
    queue.refuse(0, ArtifactError("said later", fix=""))
    assert queue.take(0, None) == "end"
    assert queue.refusal(0).problem == "the disk of one node is full"
    assert queue.open(1)
    assert queue.take(1, None) == 1


def test_a_group_with_nothing_to_do_takes_the_run_of_one_that_still_waits_for_nodes(tasks):
    queue = RunQueue(tasks)
    assert [queue.open(group) for group in (0, 1)] == [True, True]
    assert queue.take(0, None) == TRUNK
    assert not queue.waits_in_vain(1)
    for turn, following in ((TRUNK, LARGE), (LARGE, SMALL), (SMALL, CONTROL)):
        save(tasks[turn], tasks[turn].spec.stop_tokens)
        end(tasks[turn])
        assert queue.take(0, turn) == following
    assert queue.run_of(1) is None
    assert queue.waits_in_vain(1)
    assert queue.wanted() < 1  # nobody is started beside a group that waits for nodes
    end(tasks[CONTROL])
    assert queue.take(0, CONTROL) == "end"
    assert queue.take(1, None) == "end"  # its nodes came after all
    assert not queue.waits_in_vain(1)
    queue.close(1, failed=False)
    assert queue.given() == [TRUNK, LARGE, SMALL, CONTROL]


def test_a_stop_does_not_wait_for_a_group_without_nodes(tasks):
    queue = RunQueue(tasks)
    assert [queue.open(group) for group in (0, 1)] == [True, True]
    assert queue.take(0, None) == TRUNK
    queue.stop()
    assert [queue.waits_in_vain(group) for group in (0, 1)] == [False, True]
    assert queue.take(0, TRUNK) in ("end", TRUNK)  # and its run is given to nobody else
    assert queue.run_of(1) == CONTROL
