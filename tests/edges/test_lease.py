"""One writer per study: which driver may take the lease, and which may still commit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cpt_ray.edges import lease as lease_module
from cpt_ray.edges.lease import FILE, STALE_S, Lease, hold_lease, may_commit, read_lease, require_lease
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import LeaseError


def write_lease(root: Path, **changes: object) -> None:
    fields = {"attempt": 4, "host": "elsewhere", "pid": 1, "process_start": 0.0, "renewed": time.time(), **changes}
    write_atomic(root / FILE, Lease.model_validate(fields).to_json())


def living_process() -> dict[str, object]:
    """The fields of a lease held by this process."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "process_start": psutil.Process().create_time()}


def test_a_study_that_nobody_ever_ran_is_taken_as_attempt_one_and_released(tmp_path):
    assert read_lease(tmp_path / FILE) is None
    with hold_lease(tmp_path) as lease:
        held = read_lease(tmp_path / FILE)
        assert held == lease
        assert (held.attempt, held.pid, held.host, held.released) == (1, os.getpid(), socket.gethostname(), False)
    assert read_lease(tmp_path / FILE).released


def test_each_driver_has_the_next_attempt_number(tmp_path):
    attempts = []
    for _ in range(3):
        with hold_lease(tmp_path) as lease:
            attempts.append(lease.attempt)
    assert attempts == [1, 2, 3]


def test_a_second_driver_is_refused_while_the_first_is_alive(tmp_path):
    with hold_lease(tmp_path):
        with pytest.raises(LeaseError, match=rf"another driver is running this study \(process {os.getpid()} on ") as error:
            hold_lease(tmp_path).__enter__()
        assert "attempt 1" in error.value.problem
        assert "set study.root to another folder" in error.value.fix
        assert read_lease(tmp_path / FILE).attempt == 1


def test_the_lease_is_released_when_the_body_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), hold_lease(tmp_path):
        raise ZeroDivisionError
    assert read_lease(tmp_path / FILE).released


def test_the_lease_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    write_lease(tmp_path, host=socket.gethostname(), pid=gone.pid)
    with hold_lease(tmp_path) as lease:
        assert lease.attempt == 5


def test_a_process_that_only_has_the_number_of_the_old_one_does_not_hold_its_lease(tmp_path):
    write_lease(tmp_path, **{**living_process(), "process_start": psutil.Process().create_time() - 1000})
    with hold_lease(tmp_path) as lease:
        assert lease.attempt == 5


def test_a_living_process_holds_its_lease_however_late_its_heartbeat_is(tmp_path):
    write_lease(tmp_path, **living_process(), renewed=time.time() - 10 * STALE_S)
    with pytest.raises(LeaseError, match="another driver"), hold_lease(tmp_path):
        pass


@pytest.mark.parametrize(("age_s", "refused"), [(STALE_S / 2, True), (STALE_S + 1, False)])
def test_a_lease_of_another_host_holds_until_its_heartbeat_is_stale(tmp_path, age_s, refused):
    write_lease(tmp_path, renewed=time.time() - age_s)
    if refused:
        with pytest.raises(LeaseError, match="process 1 on elsewhere, attempt 4"), hold_lease(tmp_path):
            pass
    else:
        with hold_lease(tmp_path) as lease:
            assert lease.attempt == 5


def test_a_released_lease_of_another_host_is_free(tmp_path):
    write_lease(tmp_path, released=True)
    with hold_lease(tmp_path) as lease:
        assert lease.attempt == 5


def test_only_the_newest_attempt_may_commit(tmp_path):
    path = tmp_path / FILE
    assert not may_commit(path, 1)
    with hold_lease(tmp_path):
        assert may_commit(path, 1)
        require_lease(path, 1)
        write_lease(tmp_path, attempt=2)
        assert not may_commit(path, 1)
        with pytest.raises(LeaseError, match=r"attempt 1 may no longer write: .* is held by attempt 2") as error:
            require_lease(path, 1)
        assert "the newer driver continues from the last commit" in error.value.fix
    # A superseded driver leaves the successor's lease alone when it ends.
    assert (read_lease(path).attempt, read_lease(path).released) == (2, False)


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen within 20 s"
        time.sleep(0.01)


def test_the_heartbeat_is_renewed_and_never_overwrites_a_successor(tmp_path, monkeypatch):
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.02)
    path = tmp_path / FILE
    with hold_lease(tmp_path) as lease:
        wait_for(lambda: read_lease(path).renewed > lease.renewed)  # the heartbeat thread does write
        write_lease(tmp_path, attempt=2, renewed=123.0)
        time.sleep(0.3)  # many heartbeats
        assert (read_lease(path).attempt, read_lease(path).renewed) == (2, 123.0)


def test_a_lease_file_that_cannot_be_read_is_an_error_with_a_fix(tmp_path):
    (tmp_path / FILE).write_text("{")
    with pytest.raises(LeaseError, match="not a lease") as error, hold_lease(tmp_path):
        pass
    assert "delete" in error.value.fix


def test_of_two_drivers_that_start_at_once_the_later_writer_has_the_study(tmp_path, monkeypatch):
    def rival_writes(_: float) -> None:
        mine = read_lease(tmp_path / FILE)
        write_atomic(tmp_path / FILE, mine.model_copy(update={"pid": mine.pid + 1}).to_json())

    monkeypatch.setattr(lease_module.time, "sleep", rival_writes)
    with pytest.raises(LeaseError, match="another driver took this study at the same moment"), hold_lease(tmp_path):
        raise AssertionError("the lease was given twice")
