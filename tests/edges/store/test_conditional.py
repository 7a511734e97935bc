"""One writer of a study in a bucket: taken by a conditional write, renewed, lost and taken over, on several hosts."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time

import pytest

from cpt_ray.edges import lease as lease_module
from cpt_ray.edges import store
from cpt_ray.edges.lease import FILE, Lease, hold_lease, may_commit, read_lease, require_lease
from cpt_ray.edges.store import conditional
from cpt_ray.errors import ArtifactError, ConfigError, LeaseError
from tests.object_store import node

pytestmark = pytest.mark.accept(cluster=5)
DRIVER = """
import socket, sys, time
socket.gethostname = lambda: sys.argv[2]
from cpt_ray.edges import store
from cpt_ray.edges.lease import hold_lease
from cpt_ray.errors import ArtifactError, ConfigError, LeaseError
try:
    with hold_lease(store.mirror_of(sys.argv[1])) as lease:
        print("held", lease.attempt, flush=True)
        time.sleep(float(sys.argv[3]))
except LeaseError as error:
    print("refused", error.problem, flush=True)
"""


def driver(root, host: str, seconds: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, store.address(root), host, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def of_another_host(root, **changes: object) -> None:
    fields = {"attempt": 4, "host": "elsewhere", "pid": 1, "process_start": 0.0, "renewed": 0.0, **changes}
    while True:
        with contextlib.suppress(conditional.ChangedError):  # it was renewed in between
            conditional.write(root / FILE, Lease.model_validate(fields).to_json().encode(), conditional.read(root / FILE))
            return


def test_the_lease_is_an_object_that_is_released_at_the_end(root, tmp_path):
    assert read_lease(root / FILE) is None
    with hold_lease(root) as lease:
        assert lease.attempt == 1
        with node(tmp_path / "other"):
            assert may_commit(store.here(root) / FILE, 1)
    assert read_lease(root / FILE).released
    with hold_lease(root) as lease:
        assert lease.attempt == 2


def test_of_two_drivers_on_two_hosts_one_is_refused(root):
    first = driver(root, "host-a", 30)
    assert first.stdout.readline() == "held 1\n"
    second = driver(root, "host-b")
    said = second.communicate(timeout=60)[0]
    assert said.startswith(
        f"refused {store.address(root)}: another driver is running this study (process {first.pid} on host-a"
    )
    first.kill()
    first.wait()


def test_of_drivers_that_start_at_once_one_wins(root):
    results: list[str] = []
    at_once = threading.Barrier(6)

    def take() -> None:
        at_once.wait()
        try:
            with hold_lease(root):
                results.append("held")
                time.sleep(1.0)
        except LeaseError as error:
            results.append(error.problem)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("held") == 1
    assert sum("another driver" in result for result in results) == 5


def test_a_lease_that_another_host_renewed_is_refused_and_one_that_it_did_not_is_taken_over(root, monkeypatch):
    # Its own clock is decades behind: only the bucket's counts.
    of_another_host(root, renewed=1.0)
    with pytest.raises(LeaseError, match=r"another driver is running this study \(process 1 on elsewhere, attempt 4\)"):
        hold_lease(root).__enter__()
    monkeypatch.setattr(lease_module, "STALE_S", -5.0)
    with hold_lease(root) as lease:
        assert lease.attempt == 5
        with pytest.raises(LeaseError, match=r"attempt 4 may no longer write: s3://studies/.*/lease.json is held by attempt 5"):
            require_lease(root / FILE, 4)


def test_a_driver_that_was_superseded_does_not_renew_and_does_not_release(root, monkeypatch):
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.1)
    with hold_lease(root):
        of_another_host(root, attempt=2)
        time.sleep(0.5)
    now = read_lease(root / FILE)
    assert (now.attempt, now.host, now.released) == (2, "elsewhere", False)


def test_a_lease_outlives_a_bucket_that_fails_for_a_while(root, bucket, monkeypatch):
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.1)
    with hold_lease(root):
        bucket.fail("503", times=6)
        time.sleep(1.0)
        bucket.recover()
        before = read_lease(root / FILE).renewed
        end = time.monotonic() + 20
        while read_lease(root / FILE).renewed == before:
            assert time.monotonic() < end
            time.sleep(0.1)
    assert read_lease(root / FILE).released


@pytest.fixture
def careless(bucket, monkeypatch):
    """A bucket that ignores the conditions of writes, as s3rver does."""
    monkeypatch.setattr(conditional, "_careless", set())
    bucket.fail("unconditional", method="PUT")


@pytest.mark.usefixtures("careless")
def test_in_a_bucket_that_ignores_conditions_a_second_driver_is_refused_all_the_same(root):
    with hold_lease(root) as lease:
        assert not conditional.heeds_conditions(root)
        assert lease.attempt == 1
        second = driver(root, "host-b")
        assert second.communicate(timeout=60)[0].startswith(f"refused {store.address(root)}: another driver is running")
    assert read_lease(root / FILE).released


@pytest.mark.usefixtures("careless")
def test_in_a_bucket_that_ignores_conditions_the_later_of_two_writers_has_the_study(root, monkeypatch):
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.1)
    wait = time.sleep

    def overtaken(seconds: float) -> None:
        if seconds == lease_module.STORE_SETTLE_S:  # not that of another thread, such as the one that sends segments
            monkeypatch.setattr(time, "sleep", wait)
            of_another_host(root, attempt=1)
        wait(seconds)

    monkeypatch.setattr(time, "sleep", overtaken)
    with pytest.raises(LeaseError, match="another driver took this study at the same moment"):
        hold_lease(root).__enter__()
    now = read_lease(root / FILE)
    assert (now.host, now.released) == ("elsewhere", False)


def test_a_bucket_is_asked_again_whether_it_heeds_conditions(root, bucket, careless):
    conditional.probe(root)
    assert not conditional.heeds_conditions(root)
    bucket.recover()
    conditional.probe(root)
    assert conditional.heeds_conditions(root)


def test_a_bucket_that_keeps_other_bytes_than_it_is_sent_is_refused(root, bucket):
    bucket.fail("framed", method="PUT")
    with pytest.raises(
        ArtifactError, match=r"bytes.probe: the store keeps other bytes than it is sent: [0-9]+ for 32"
    ) as error:
        hold_lease(root).__enter__()
    assert error.value.fix.startswith("export AWS_REQUEST_CHECKSUM_CALCULATION=when_required")


def test_what_is_no_lease_is_named(root, bucket):
    bucket.put(f"{store.address(root).removeprefix('s3://studies/')}/{FILE}", b"{}")
    with pytest.raises(LeaseError, match=r"s3://studies/.*/lease.json: not a lease"):
        read_lease(root / FILE)


@pytest.mark.usefixtures("bucket")
def test_without_boto3_a_bucket_is_refused_with_the_command_that_installs_it(root, monkeypatch):
    for module in ("boto3", "botocore", "botocore.exceptions"):
        monkeypatch.setitem(sys.modules, module, None)
    conditional._client_of.cache_clear()
    with pytest.raises(ConfigError, match=r"study\.root on S3 needs the Python package boto3, which is not installed") as error:
        hold_lease(root).__enter__()
    assert error.value.fix.startswith("pip install 'boto3")
