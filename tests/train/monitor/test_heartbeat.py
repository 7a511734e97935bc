"""When no worker moves, the one that the others wait for is named; in a healthy run none is."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist

from cpt_ray.records import Heartbeat
from cpt_ray.train.monitor import heartbeat
from cpt_ray.train.monitor.heartbeat import Heart, SilenceWatch, describe, laggards, read_heartbeats
from tests.train.engine.zero_group import JobError


def beat(rank: int, moves: int, phase: str = "backward", step: int = 7) -> Heartbeat:
    return Heartbeat(rank=rank, world_size=3, host="node", pid=100 + rank, step=step, phase=phase, moves=moves, time=0.0)


def test_the_one_that_entered_fewest_phases_is_behind():
    beats = (beat(0, 20), beat(1, 18, "data"), beat(2, 20))
    assert laggards(beats) == (beats[1],)
    assert describe(laggards(beats)) == "rank 1 on node, pid 101, is in phase data of step 7"
    assert laggards((beat(0, 20), beat(1, 20))) == ()
    assert laggards(()) == ()


def test_silence_is_reported_once_and_again_only_after_somebody_moved(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock[0])
    watch = SilenceWatch(least_s=60)

    def look(after: float, *beats: Heartbeat, slowest: float = 0.0) -> str | None:
        clock[0] += after
        found = watch.look(beats, slowest_step_s=slowest)
        return str(found) if found else None

    both = (beat(0, 5), beat(1, 4, "data"))
    assert look(0, *both) is None
    assert look(59, *both) is None
    assert look(2, *both) == "no worker has moved for 61 s: rank 1 on node, pid 101, is in phase data of step 7"
    assert look(100, *both) is None
    moved = (beat(0, 5), beat(1, 5))
    assert look(1, *moved) is None
    assert look(61, *moved, slowest=20) is None  # five of the slowest steps are longer
    assert look(40, *moved, slowest=20).endswith("rank 1 on node, pid 101, is in phase backward of step 7")  # none is behind


def test_workers_that_do_not_start_are_reported_once_as_that(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock[0])
    watch = SilenceWatch(least_s=20)
    said = []
    for _ in range(5):
        clock[0] += 60
        said.append(watch.look((), slowest_step_s=0))
    assert [str(found) for found in said if found] == [
        "no worker has started for 120 s; `ray status` shows what the cluster is waiting for"
    ]
    assert watch.look((beat(0, 1),), slowest_step_s=0) is None


def test_a_heart_writes_what_it_was_told_last(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(heartbeat, "_EVERY_S", 0.02)
    heart = Heart(tmp_path, rank=3, world_size=4)
    for step in range(1, 100):
        heart.beat("forward", step)
    end = time.monotonic() + 20
    while read_heartbeats(tmp_path)[0].step < 99 and time.monotonic() < end:
        time.sleep(0.01)
    heart.close()
    (found,) = read_heartbeats(tmp_path)
    assert (found.rank, found.phase, found.step, found.moves) == (3, "forward", 99, 99)


def test_a_driver_is_told_again_and_again_and_one_that_is_away_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "_EVERY_S", 0.02)
    told = []

    def tell(found) -> bool:
        told.append(found)
        if len(told) > 1:
            raise ConnectionError("the driver's node is away")
        return True

    heart = Heart(tmp_path, rank=0, world_size=1, tell=tell)
    heart.beat("forward", 1)
    end = time.monotonic() + 20
    while len(told) < 5 and time.monotonic() < end:
        time.sleep(0.01)
    heart.close()
    assert heart.stop_wanted  # what it said last
    assert len(told) >= 5  # also while it does not move: the answer may be a stop
    assert (told[-1].phase, told[-1].step, told[-1].moves) == ("forward", 1, 1)
    assert read_heartbeats(tmp_path) == (told[-1],)


def hang(folder: str, sleeper: int | None) -> None:
    """Three steps of a fake loop; `sleeper` never finishes reading the second batch."""
    heart = Heart(Path(folder), rank=dist.get_rank(), world_size=dist.get_world_size())
    for step in (1, 2, 3):
        heart.beat("data", step)
        if step == 2 and dist.get_rank() == sleeper:
            time.sleep(3600)
        heart.beat("backward", step)
        dist.all_reduce(torch.ones(1))
    heart.close()


def start(folder: str) -> None:
    dist.barrier()


def watch_group(zero_groups, folder: Path, sleeper: int | None) -> list[str]:
    """What the driver's watch reports while the group runs `hang`."""
    group, watch, said, failed = zero_groups.of(2), SilenceWatch(least_s=3), [], []
    group.run(start, str(folder))  # starting workers takes longer than the hang may last
    done = threading.Event()

    def run() -> None:
        try:
            group.run(hang, str(folder), sleeper, timeout_s=12 if sleeper is not None else 120)
        except JobError as error:
            failed.append(error)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not done.wait(0.2):
        silence = watch.look(read_heartbeats(folder), slowest_step_s=0.0)
        if silence is not None:
            said.append(str(silence))
    thread.join()
    assert bool(failed) is (sleeper is not None)
    return said


def test_a_worker_that_really_hangs_is_named_and_a_healthy_group_is_not(zero_groups, tmp_path):
    assert watch_group(zero_groups, tmp_path / "healthy", None) == []
    assert {b.moves for b in read_heartbeats(tmp_path / "healthy")} == {6}
    (said,) = watch_group(zero_groups, tmp_path / "hanging", 1)
    assert "no worker has moved for" in said
    assert "rank 1 on " in said
    assert "is in phase data of step 2" in said
    assert "rank 0" not in said


def test_a_heartbeat_that_is_just_being_replaced_is_none(tmp_path: Path):
    folder = tmp_path / heartbeat.FOLDER
    folder.mkdir()
    (folder / "rank-00000.json").write_text(beat(0, 20).to_json())
    (folder / "rank-00001.json").write_text(beat(1, 20).to_json()[:-2])
    (folder / "rank-00002.json").symlink_to(tmp_path / "gone")
    assert [one.rank for one in read_heartbeats(tmp_path)] == [0]
