"""What a worker reports while it trains: which files, when something is due, and warnings from before there was a file."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.config.sections.watch import WatchConfig
from cpt_ray.records import Heartbeat, HeldOutPoint, MemoryPoint, RunEvent, RunProgress
from cpt_ray.train.monitor.held_out import HeldOutLoss
from cpt_ray.train.monitor.metrics import HELD_OUT, MEMORY, read_events, read_lineage, read_metrics
from cpt_ray.train.monitor.watch import Intervals, Watch, intervals
from tests.train.monitor.test_metrics import metrics

pytestmark = pytest.mark.usefixtures("one_worker")


def at(step):
    return RunProgress(step=step, position=step, tokens_seen=100 * step)


def point(progress):
    return HeldOutPoint(
        attempt=1, step=progress.step, tokens_seen=progress.tokens_seen, source="law", role="domain", part="validation",
        documents=1, scored_tokens=10, scored_bytes=30, nats_per_token=2.0, bits_per_byte=1.0, seconds=0.1,
    )  # fmt: skip


@pytest.fixture
def watch(tmp_path):
    watch = Watch(tmp_path, torch.device("cpu"))
    yield watch
    watch.stop()


def begin(watch, *, start=0, memory=250, held_out=300):
    looked = []

    def measure(progress):
        looked.append(progress.tokens_seen)
        return [point(progress)]

    watch.begin(at(start), attempt=1, every=Intervals(memory, held_out), measure_held_out=measure)
    return looked


def test_held_out_loss_is_measured_at_the_base_and_when_an_interval_is_passed(watch, tmp_path):
    looked = begin(watch)
    for step in range(1, 8):
        watch.observe(at(step - 1), at(step))
    assert looked == [0, 300, 600]
    assert [found.tokens_seen for found in read_lineage(tmp_path, HELD_OUT, HeldOutPoint)] == looked


def test_a_resumed_run_does_not_measure_its_start_again_and_never_is_never(watch, tmp_path):
    assert begin(watch, start=3) == []
    assert begin(watch, held_out=None) == []
    watch.observe(at(3), at(900))
    assert read_lineage(tmp_path, HELD_OUT, HeldOutPoint) == ()


def test_one_whole_step_of_an_interval_is_measured_phase_by_phase(watch, tmp_path):
    begin(watch, held_out=None)
    for step in range(1, 7):
        for phase in ("forward", "backward", "step"):
            watch.enter(phase, step)
        watch.observe(at(step - 1), at(step))
    watch.close()
    whole = {found.step for found in read_lineage(tmp_path, MEMORY, MemoryPoint) if found.phase == "forward"}
    assert whole == {1, 4, 6}  # the first, and those after 250 and 500 tokens were passed


def test_what_observe_will_measure_is_known_before_and_follows_tokens_spent_whether_seen_or_skipped(watch):
    looked = begin(watch)
    due = []
    for step in range(1, 8):
        due.append(watch.due(at(step - 1), at(step)))
        watch.observe(at(step - 1), at(step))
    assert due == [True, False, True, True, False, True, False]  # memory of steps 1, 4 and 6, held-out loss after 3 and 6
    skipped = RunProgress(step=8, position=8, tokens_seen=700, tokens_skipped=200)
    assert watch.due(at(7), skipped)
    watch.observe(at(7), skipped)
    assert looked == [0, 300, 600, 700]


def test_a_warning_is_an_event_even_if_it_came_before_there_was_a_file(watch, tmp_path):
    watch.warn("early")
    begin(watch)
    watch.observe(at(0), at(2))
    watch.warn("late")
    assert [(found.kind, found.text, found.step, found.rank) for found in read_events(tmp_path)] == [
        ("warning", "early", 0, 0),
        ("warning", "late", 2, 0),
    ]
    watch.stop()
    watch.warn("after the end")  # from another thread: it is dropped, and nothing breaks
    assert len(read_events(tmp_path)) == 2


def test_steps_and_checkpoints_are_written_with_what_they_cost(watch, tmp_path):
    begin(watch)
    watch.log(metrics(1, 1))
    watch.observe(at(0), at(1))
    watch.enter("checkpoint", 1)
    watch.enter("forward", 2)
    watch.report(RunEvent(kind="spike", attempt=1, step=2, tokens_seen=100, text="a spike"))
    assert [found.step for found in read_metrics(tmp_path)] == [1]
    checkpoint, spike = read_events(tmp_path)
    assert (checkpoint.kind, checkpoint.step, checkpoint.tokens_seen) == ("checkpoint", 1, 100)
    assert 0 <= checkpoint.seconds < 5
    assert checkpoint.text == f"training paused for {checkpoint.seconds:.1f} s"
    assert spike.kind == "spike"
    watch.close()
    watch.log(metrics(1, 2))  # closed: no line follows the record that sums them up
    assert [found.step for found in read_metrics(tmp_path)] == [1]


def test_heartbeats_of_an_earlier_start_are_removed_and_this_ones_follow_its_phases(tmp_path):
    stale = tmp_path / "heartbeats" / "rank-00007.json"
    stale.parent.mkdir()
    stale.write_text("{}")
    watch = Watch(tmp_path, torch.device("cpu"))
    try:
        assert not stale.exists()
        watch.enter("load", 0)
        watch.enter("engine")
        (path,) = stale.parent.iterdir()
        beat = Heartbeat.load(path)
        assert beat.phase in {"start", "load", "engine"}  # written by a thread, a moment later
        assert beat.rank == 0
    finally:
        watch.stop()
    assert Heartbeat.load(path).phase == "engine"


def test_intervals_follow_the_run_unless_the_study_says():
    nothing = HeldOutLoss([], prefix=0, row_tokens=32, rank=0, world_size=1)
    assert intervals(WatchConfig(), 1000, nothing) == Intervals(memory=100, held_out=None)
    assert intervals(WatchConfig(), 3, nothing).memory == 1
    assert intervals(WatchConfig(memory_every=70), 1000, nothing).memory == 70
