"""Batches read ahead are the batches of their positions; few are ahead, errors arrive where they belong, the thread ends."""

from __future__ import annotations

import threading
import time
import traceback

import pytest
import torch

from cpt_ray.train.order.batches import Batch, MicroBatch
from cpt_ray.train.order.prefetch import Prefetch
from cpt_ray.train.order.samples import SampleId

CPU = torch.device("cpu")


class Source:
    """Makes a batch of two rows at any position; remembers positions and threads, waits while told to, breaks where told to."""

    def __init__(self, *, breaks_at: int | None = None) -> None:
        self.made, self.threads, self.breaks_at = [], set(), breaks_at
        self.go_on = threading.Event()
        self.go_on.set()

    def at(self, position: int) -> Batch:
        self.go_on.wait()
        self.made.append(position)
        self.threads.add(threading.current_thread().name)
        if position == self.breaks_at:
            raise OSError(f"shard of row {position} is gone")
        ids = torch.tensor([position, position + 1])
        micro = MicroBatch(ids, ids + 1, (2,))
        return Batch((micro,), 2, 2, (SampleId("law", position), SampleId("law", position + 1)), 2.0)


def wait_until(what) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)


def positions(batches: list[Batch]) -> list[int]:
    return [int(batch.micro_batches[0].input_ids[0]) for batch in batches]


@pytest.mark.parametrize("ahead", [0, 1, 2, 5])
def test_positions_get_their_batches_in_any_order(ahead):
    source = Source()
    with Prefetch(source.at, rows=2, device=CPU, ahead=ahead) as batches:
        asked = [0, 2, 4, 100, 102, 0, 0, 2]  # a run begins anywhere
        assert positions([batches.at(position) for position in asked]) == asked
        assert len(source.threads) == 1
        assert (source.threads == {threading.current_thread().name}) is (ahead == 0)


def test_at_most_two_steps_are_read_ahead_and_none_twice():
    source = Source()
    with Prefetch(source.at, rows=2, device=CPU, ahead=2) as batches:
        batches.at(0)
        wait_until(lambda: len(source.made) == 3)
        time.sleep(0.05)
        assert source.made == [0, 2, 4]
        batches.at(2)
        wait_until(lambda: len(source.made) == 4)
        assert source.made == [0, 2, 4, 6]


def test_an_error_is_raised_with_its_traceback_where_its_batch_is_asked_for():
    source = Source(breaks_at=4)
    with Prefetch(source.at, rows=2, device=CPU, ahead=2) as batches:
        assert positions([batches.at(0), batches.at(2)]) == [0, 2]
        with pytest.raises(OSError, match="shard of row 4 is gone") as error:
            batches.at(4)
    assert "raise OSError(f" in "".join(traceback.format_tb(error.value.__traceback__))


def test_a_reader_that_is_slow_is_waited_for():
    source = Source()
    source.go_on.clear()
    threading.Timer(0.2, source.go_on.set).start()
    with Prefetch(source.at, rows=2, device=CPU, ahead=2) as batches:
        started = time.perf_counter()
        batches.at(0)
        assert time.perf_counter() - started > 0.1  # what the loop records as waiting for data


@pytest.mark.parametrize("error", [None, RuntimeError("training broke")])
def test_the_thread_ends_with_the_run(error):
    source = Source()
    try:
        with Prefetch(source.at, rows=2, device=CPU, ahead=2) as batches:
            batches.at(0)
            if error:
                raise error
    except RuntimeError:
        assert error
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_on_a_cpu_nothing_is_read_ahead():
    source = Source()
    with Prefetch(source.at, rows=2, device=CPU) as batches:
        batches.at(0)
    assert source.made == [0]


@pytest.mark.gpu
def test_for_a_gpu_batches_are_pinned():
    with Prefetch(Source().at, rows=2, device=torch.device("cuda", 0)) as batches:
        (micro,) = batches.at(0).micro_batches
    assert micro.input_ids.is_pinned()
    assert micro.labels.is_pinned()
