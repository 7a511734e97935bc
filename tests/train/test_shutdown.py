"""What workers agree on between two steps: a stop, a preempted node, a failed upload; each once, on all ranks."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from cpt_ray.train import shutdown
from cpt_ray.train.shutdown import Preemption, Requests


@pytest.fixture
def always_ask(monkeypatch):
    monkeypatch.setattr(shutdown, "_ASK_S", 0.0)


def never():
    return False


def ask_of(stop_wanted, *, ask_preemption=None, upload_failed=lambda: False, on_failed_upload=lambda: None, lag=0):
    return Requests(
        stop_wanted,
        ask_preemption=ask_preemption,
        upload_failed=upload_failed,
        on_failed_upload=on_failed_upload,
        device=torch.device("cpu"),
        lag=lag,
    )


@pytest.mark.usefixtures("one_worker")
def test_a_stop_is_obeyed_for_as_long_as_it_is_wanted():
    wanted = iter([False, True, True, False])
    requests = ask_of(lambda: next(wanted))
    assert [requests() for _ in range(4)] == [None, "stop", "stop", None]


@pytest.mark.usefixtures("one_worker")
def test_nodes_are_not_asked_about_at_every_step(monkeypatch):
    now, asked = 1000.0, []
    monkeypatch.setattr(shutdown.time, "monotonic", lambda: now)
    requests = ask_of(never, ask_preemption=lambda: asked.append(now))
    for _ in range(12):
        requests()
        now += 1.0
    assert asked == [1000.0, 1005.0, 1010.0]


@pytest.mark.usefixtures("one_worker", "always_ask")
def test_a_notice_is_answered_once_and_a_new_one_again():
    notices = [None, Preemption(100.0, ("a",)), Preemption(100.0, ("a",)), Preemption(200.0, ("a", "b")), None]
    requests = ask_of(never, ask_preemption=lambda: notices.pop(0))
    assert [requests() for _ in range(5)] == [None, "preemption", None, "preemption", None]
    assert requests.preemption == Preemption(200.0, ("a", "b"))


@pytest.mark.usefixtures("one_worker", "always_ask")
def test_a_stop_goes_before_a_notice():
    wanted = iter([True, False])
    requests = ask_of(lambda: next(wanted), ask_preemption=lambda: Preemption(None, ("a",)))
    assert [requests(), requests()] == ["stop", "preemption"]


def two_ranks(told_rank, failing_rank):
    """One rank may have heard of a stop, one may have a failed upload; returns this rank's request, or the error it raised."""
    rank = dist.get_rank()

    def fail():
        raise RuntimeError("an upload failed")

    requests = ask_of(lambda: rank == told_rank, upload_failed=lambda: rank == failing_rank, on_failed_upload=fail)
    try:
        return requests()
    except RuntimeError as error:
        return str(error)


def test_what_one_rank_sees_all_ranks_learn_at_the_same_step(zero_groups):
    group = zero_groups.of(2)
    assert group.run(two_ranks, None, None) == [None, None]
    assert group.run(two_ranks, None, 1) == ["an upload failed", "an upload failed"]
    assert group.run(two_ranks, 0, None) == ["stop", "stop"]
    assert group.run(two_ranks, 1, None) == ["stop", "stop"]


def asks_late(lag):
    """Four calls; one rank has heard of a stop at the second."""
    wanted = iter([False, dist.get_rank() == 1, False, False])
    requests = ask_of(lambda: next(wanted), lag=lag)
    return [requests() for _ in range(4)]


def test_a_late_answer_reaches_all_ranks_at_the_same_later_step(zero_groups):
    group = zero_groups.of(2)
    assert group.run(asks_late, 0) == [[None, "stop", None, None]] * 2
    assert group.run(asks_late, 2) == [[None, None, None, "stop"]] * 2
