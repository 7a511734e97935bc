"""What the driver is told of runs that train at the same time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cpt_ray.records import Heartbeat, RunEvent
from cpt_ray.train.groups.watcher import Watcher
from cpt_ray.train.monitor.metrics import EVENTS, LineWriter, read_events
from tests.train.groups.told import Told
from tests.train.tiny_run import make_task, spec_named, tiny_config


@pytest.fixture
def tasks(tmp_path):
    config = tiny_config(tmp_path, budgets=[8000], watch={"hang_report": 1})
    return [make_task(tmp_path, config, spec_named(config, arm), arm) for arm in ("legal", "control")]


def warn(task, attempt: int, rank: int, *texts: str) -> None:
    writer = LineWriter(Path(task.run_folder), EVENTS, attempt, rank=rank)
    for text in texts:
        writer.write(RunEvent(kind="warning", attempt=attempt, step=0, tokens_seen=0, text=text, rank=rank))
    writer.close()


@dataclass
class Asked:
    """What a watcher asks of a queue."""

    runs: list[int]
    workers: dict[int, dict[int, Heartbeat]] = field(default_factory=dict)

    def given(self) -> list[int]:
        return self.runs

    def beats(self, place: int) -> tuple[Heartbeat, ...]:
        return tuple(self.workers.get(place, {}).values())

    def beat(self, place: int, rank: int, moves: int) -> None:
        self.workers.setdefault(place, {})[rank] = Heartbeat(
            rank=rank, world_size=2, host="here", pid=100 + rank, phase="steps", step=moves, moves=moves, time=0.0
        )


def test_a_warning_of_several_workers_and_runs_is_told_once(tasks):
    told = Told()
    watcher = Watcher(tasks, Asked([0, 1]), told)
    for task in tasks:
        for rank in (0, 1):
            warn(task, 1, rank, "rows are idle", f"only in {task.spec.name}")
    watcher._look(())
    watcher._look(())
    legal, control = (task.spec.name for task in tasks)
    assert [(place, event.text) for place, event in told.events] == [
        (0, "rows are idle"),
        (0, f"only in {legal}"),
        (1, f"only in {control}"),
    ]


def test_only_runs_that_a_group_was_given_are_followed_and_each_begins_once(tasks):
    told, given = Told(), [1]
    watcher = Watcher(tasks, Asked(given), told)
    watcher._look(())
    assert told.started == [1]
    given.append(0)
    watcher._look(())
    watcher._look(())
    assert told.started == [1, 0]


def test_the_run_that_is_silent_is_named_while_the_other_goes_on(tasks):
    told, asked = Told(), Asked([0, 1])
    watcher = Watcher(tasks, asked, told)
    for moves in range(1, 16):
        asked.beat(1, 0, moves)
        asked.beat(1, 1, moves)
        if moves == 1:
            asked.beat(0, 0, 7)
            asked.beat(0, 1, 6)
        watcher._look(())
        threading.Event().wait(0.1)
    hangs = [(place, event) for place, event in told.events if event.kind == "hang"]
    assert [(place, event.rank) for place, event in hangs] == [(0, 1)]
    assert "rank 1 on here, pid 101, is in phase steps of step 6" in hangs[0][1].text
    assert [event.kind for event in read_events(Path(tasks[0].run_folder))] == ["hang"]
    assert read_events(Path(tasks[1].run_folder)) == ()
    assert watcher.who_is_behind(0) == "; rank 1 on here, pid 101, is in phase steps of step 6, behind the others"
    assert watcher.who_is_behind(1) == ""


def test_an_error_of_the_observer_is_kept_for_the_driver(tasks):
    told = Told()

    def refuse(place: int) -> None:
        raise OSError("disk full")

    told.begun = refuse
    watcher = Watcher(tasks, Asked([0]), told)
    watcher.start()
    watcher.finish()
    assert str(watcher.error) == "disk full"


def test_an_error_is_said_once_and_gone_when_a_later_look_has_none(tasks, caplog):
    told, fails = Told(), [True]
    done = told.begun

    def begun(place: int) -> None:
        if place == 0 and fails:
            raise OSError("the bucket is away")
        done(place)

    told.begun = begun
    watcher = Watcher(tasks, Asked([0, 1]), told)
    watcher._look(())
    watcher._look(())
    assert str(watcher.error) == "the bucket is away"
    assert told.started == [1]
    assert [record.message for record in caplog.records] == [
        "OSError: the bucket is away; training goes on, and is looked at again"
    ]
    fails.clear()
    watcher._look(())
    assert watcher.error is None
    assert told.started == [1, 0]
