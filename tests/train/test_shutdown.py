"""What workers agree on between two steps: a stop, a preempted node, a failed upload; each once, on all ranks."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from cpt_ray.train import shutdown
from cpt_ray.train.shutdown import Preemption, Requests


@pytest.fixture
def always_look(monkeypatch):
    monkeypatch.setattr(shutdown, "_LOOK_S", 0.0)
    monkeypatch.setattr(shutdown, "_ASK_S", 0.0)


def ask_of(stop_file, *, ask_preemption=None, upload_failed=lambda: False, on_failed_upload=lambda: None, lag=0):
    return Requests(
        stop_file,
        ask_preemption=ask_preemption,
        upload_failed=upload_failed,
        on_failed_upload=on_failed_upload,
        device=torch.device("cpu"),
        lag=lag,
    )


@pytest.mark.usefixtures("one_worker", "always_look")
def test_a_stop_is_asked_for_by_a_file_and_for_as_long_as_it_is_there(tmp_path):
    requests = ask_of(tmp_path / "stop-1")
    assert requests() is None
    (tmp_path / "stop-2").touch()  # another driver's
    assert requests() is None
    (tmp_path / "stop-1").touch()
    assert [requests(), requests()] == ["stop", "stop"]
    (tmp_path / "stop-1").unlink()
    assert requests() is None


@pytest.mark.usefixtures("one_worker")
def test_the_disk_is_not_asked_at_every_step(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(shutdown.time, "monotonic", lambda: now)
    requests = ask_of(tmp_path / "stop")
    assert requests() is None
    (tmp_path / "stop").touch()
    now += 0.4
    assert requests() is None
    now += 0.2
    assert requests() == "stop"


@pytest.mark.usefixtures("one_worker", "always_look")
def test_a_notice_is_answered_once_and_a_new_one_again(tmp_path):
    notices = [None, Preemption(100.0, ("a",)), Preemption(100.0, ("a",)), Preemption(200.0, ("a", "b")), None]
    requests = ask_of(tmp_path / "stop", ask_preemption=lambda: notices.pop(0))
    assert [requests() for _ in range(5)] == [None, "preemption", None, "preemption", None]
    assert requests.preemption == Preemption(200.0, ("a", "b"))


@pytest.mark.usefixtures("one_worker", "always_look")
def test_a_stop_goes_before_a_notice(tmp_path):
    requests = ask_of(tmp_path / "stop", ask_preemption=lambda: Preemption(None, ("a",)))
    (tmp_path / "stop").touch()
    assert requests() == "stop"
    (tmp_path / "stop").unlink()
    assert requests() == "preemption"


def two_ranks(folder, failing_rank):
    """Each rank has its own stop file, one may have a failed upload; returns this rank's request, or the error it raised."""
    shutdown._LOOK_S = 0.0
    rank = dist.get_rank()

    def fail():
        raise RuntimeError("an upload failed")

    requests = ask_of(folder / f"stop-{rank}", upload_failed=lambda: rank == failing_rank, on_failed_upload=fail)
    try:
        return requests()
    except RuntimeError as error:
        return str(error)


def test_what_one_rank_sees_all_ranks_learn_at_the_same_step(zero_groups, tmp_path):
    group = zero_groups.of(2)
    assert group.run(two_ranks, tmp_path, None) == [None, None]
    assert group.run(two_ranks, tmp_path, 1) == ["an upload failed", "an upload failed"]
    (tmp_path / "stop-1").touch()  # only rank 0 looks, so that a slow filesystem cannot split the ranks
    assert group.run(two_ranks, tmp_path, None) == [None, None]
    (tmp_path / "stop-0").touch()
    assert group.run(two_ranks, tmp_path, None) == ["stop", "stop"]


def asks_late(folder, lag):
    """Four calls, the stop file there from the second on."""
    shutdown._LOOK_S = 0.0
    requests = ask_of(folder / f"late-{lag}", lag=lag)
    found = [requests()]
    dist.barrier()
    (folder / f"late-{lag}").touch()
    return [*found, *(requests() for _ in range(3))]


def test_a_late_answer_reaches_all_ranks_at_the_same_later_step(zero_groups, tmp_path):
    group = zero_groups.of(2)
    assert group.run(asks_late, tmp_path, 0) == [[None, "stop", "stop", "stop"]] * 2
    assert group.run(asks_late, tmp_path, 2) == [[None, None, None, "stop"]] * 2
