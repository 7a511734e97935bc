"""A control service that stops answering: said, the command interrupted, and in the end the process ended."""

from __future__ import annotations

import logging
import subprocess
import sys
import time

import pytest

from cpt_ray.edges import control_service
from cpt_ray.edges.control_service import watched
from cpt_ray.errors import CptRayError

pytestmark = pytest.mark.accept(cluster=5)
STUCK = """
import signal, time
from cpt_ray.edges import control_service
control_service.EVERY_S, control_service.LOST_S, control_service.END_S = 0.01, 0.05, 0.2
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as if in a call that never returns
def ask(limit_s):
    raise ConnectionError("refused")
with control_service.watched("10.0.0.1:6379", ask):
    time.sleep(60)
"""


class Service:
    """Answers, or does not."""

    def __init__(self) -> None:
        self.answers, self.asked = True, 0

    def ask(self, limit_s: float) -> None:
        self.asked += 1
        assert limit_s == control_service.ANSWER_S
        if not self.answers:
            raise ConnectionError("refused")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(control_service, "EVERY_S", 0.01)
    monkeypatch.setattr(control_service, "LOST_S", 0.2)
    return Service()


def test_one_that_is_gone_is_said_the_command_is_interrupted_and_the_error_names_what_to_do(service, caplog):
    said = pytest.raises(CptRayError, match=r"control service at 10\.0\.0\.1:6379 has not answered for \d+ s")
    with said as caught, watched("10.0.0.1:6379", service.ask) as watch:
        service.answers = False
        try:
            time.sleep(30)
        except BaseException as error:
            watch.require_it(error)
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)
    assert "re-run the same command to resume from the last checkpoint" in caught.value.fix
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.message == f"{caught.value.problem}; what trains saves a checkpoint, then the command ends"


def test_one_that_is_back_in_time_is_not_missed(service, caplog):
    with watched("10.0.0.1:6379", service.ask) as watch:
        for answers in (True, False, True):
            service.answers, before = answers, service.asked
            while service.asked < before + 3:
                time.sleep(0.01)
        watch.require_it(ValueError("of its own"))
    assert [record for record in caplog.records if record.levelno == logging.WARNING] == []
    watch.join(5)
    assert not watch.is_alive()


def test_an_error_that_arrives_before_it_is_missed_is_explained_by_it(service, monkeypatch):
    monkeypatch.setattr(control_service, "EVERY_S", 60)
    with watched("10.0.0.1:6379", service.ask) as watch:
        service.answers = False
        with pytest.raises(CptRayError, match="has not answered") as caught:
            watch.require_it(RuntimeError("Timed out while waiting for GCS to become available."))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_process_that_does_not_end_is_ended_with_the_same_message():
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "cpt-ray: Ray's control service at 10.0.0.1:6379 has not answered for 0 s" in done.stderr
    assert "fix: start the cluster again" in done.stderr
