"""A bucket that fails: repeated while it may recover, named at once where it will not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from cpt_ray.edges import storage, store
from cpt_ray.edges.store import opening
from cpt_ray.errors import ArtifactError

pytestmark = pytest.mark.accept(cluster=5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds of patience."""
    monkeypatch.setattr(opening, "PATIENCE_S", 2.0)
    monkeypatch.setattr(opening, "FIRST_PATIENCE_S", 1.0)


@pytest.mark.parametrize("kind", ["503", "throttled", "cut"])
def test_a_bucket_that_recovers_costs_time_only(root, bucket, kind):
    storage.write_atomic(root / "before", "1")
    bucket.fail(kind, times=7)
    storage.write_atomic(root / "a.json", "sent while it failed")
    assert bucket.failed > 3  # more than one request of the filesystem's own tries
    bucket.fail(kind, times=7)
    assert store.listing(root)["a.json"].size_bytes == 20
    (root / "a.json").unlink()
    bucket.fail(kind, times=7)
    assert store.fetched(root / "a.json").read_text() == "sent while it failed"
    assert bucket.failed > 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["503", "cut"])
def test_a_bucket_that_does_not_recover_is_named(root, bucket, kind):
    storage.write_atomic(root / "before", "1")
    bucket.fail(kind)
    with pytest.raises(ArtifactError, match=r"s3://studies/.*/a.json: cannot be written: OSError: ") as error:
        storage.write_atomic(root / "a.json", "1")
    assert error.value.fix
    bucket.recover()
    assert not store.exists(root / "a.json")


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        ("expired", "the credentials have expired: renew them, then re-run the same command"),
        ("denied", "the server refuses access: check the credentials and their rights"),
        ("wrong key", "the keys are wrong: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on the driver and on every worker"),
    ],
)
def test_a_refusal_in_the_middle_is_named_at_once(root, bucket, kind, fix):
    storage.write_atomic(root / "before", "1")
    bucket.fail(kind, method="PUT")
    started = time.monotonic()
    with pytest.raises(ArtifactError, match=r"s3://studies/.*/a.json: cannot be written: ") as error:
        storage.write_atomic(root / "a.json", "1")
    assert error.value.fix == fix
    assert time.monotonic() - started < opening.FIRST_PATIENCE_S
    bucket.recover()
    storage.write_atomic(root / "a.json", "1")  # the same process goes on with renewed credentials
    assert store.exists(root / "a.json")


def test_a_bucket_that_does_not_exist_is_named_at_once(root):
    with pytest.raises(ArtifactError, match=r"s3://no-such-bucket/x/a: cannot be written: .*NO_SUCH_BUCKET") as error:
        storage.write_atomic(store.mirror_of("s3://no-such-bucket/x") / "a", "1")
    assert error.value.fix == "check the name of the bucket"


def test_a_refusal_of_one_bucket_takes_no_patience_from_another(root, bucket, monkeypatch):
    monkeypatch.setattr(opening, "FIRST_PATIENCE_S", 0.0)
    storage.write_atomic(root / "before", "1")
    with pytest.raises(ArtifactError, match="NO_SUCH_BUCKET"):
        storage.write_atomic(store.mirror_of("s3://no-such-bucket/x") / "a", "1")
    bucket.fail("503", times=7)
    storage.write_atomic(root / "a", "1")
    assert bucket.failed > 3


READS = """
import sys
from pathlib import Path
from cpt_ray.edges import store
from cpt_ray.edges.store import opening
opening.FIRST_PATIENCE_S = 0.0
print(store.fetched(Path(sys.argv[1])).read_text())
"""


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_a_process_that_begins_while_a_bucket_is_away_is_as_patient_as_the_one_that_started_it(root, bucket, told):
    storage.write_atomic(root / "a", "there")
    (root / "a").unlink()
    environment = {**os.environ, **(opening.environment() if told else {})}
    bucket.fail("503", times=7)
    command = [sys.executable, "-c", READS, str(root / "a")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0, done.stdout == "there\n") == (told, told), done.stderr
    assert told or "cannot be read" in done.stderr
