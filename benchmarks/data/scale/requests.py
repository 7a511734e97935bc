"""Requests to a bucket while a run trains: a driver and two workers on a real S3 server, between checkpoints.

The server is moto's, behind the proxy of the tests, which sees every request. Counted from the first metrics in the bucket on.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

from benchmarks.measure.claims import POSITIVE, Claim
from tests.integration.tiny_study import write_tiny_study
from tests.object_store import ObjectStore, object_store

ROOT = "s3://studies/tiny"
_WAIT_S = 300


def measure(folder: Path, seconds: float, tokens: int) -> Claim:
    """Train a tiny study for about as long as `tokens` take, and count for some of its seconds."""
    study = write_tiny_study(folder / "study", kind="ray")
    overrides = (
        f"study.root={ROOT}",
        "tracking.enabled=false",
        f"train.budgets=[{tokens}]",
        f"train.checkpoint_every={tokens}",
    )
    overrides += tuple(f"arms.{arm}.max_epochs=10000" for arm in ("legal", "control"))
    command = [sys.executable, "-m", "cpt_ray.cli.main"]
    with object_store() as bucket:
        subprocess.run([*command, "prepare", str(study.config), *overrides], check=True, stdout=subprocess.DEVNULL)
        training = subprocess.Popen([*command, "train", str(study.config), *overrides], stdout=subprocess.DEVNULL)
        try:
            _wait_for_metrics(bucket, training)
            before = len(bucket.seen)
            time.sleep(seconds)
            seen = bucket.seen[before:]
            if training.poll() is not None:
                raise RuntimeError(f"training ended within {seconds} s: give it more tokens")
        finally:
            training.terminate()
            training.wait()
    of_what = Counter(f"{method} {_what(path)}" for method, path in seen)
    return Claim(
        id="scale.requests_per_minute",
        possible=POSITIVE,
        claim="requests a minute to the bucket of a driver and two workers that train, between checkpoints, on Ray",
        value=len(seen) / seconds * 60,
        unit="requests a minute",
        target="<= 120",
        raw={"seconds": seconds, "requests": dict(of_what.most_common())},
    )


def _wait_for_metrics(bucket: ObjectStore, training: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _WAIT_S
    while not any("/metrics/attempt-" in key for key in bucket.keys("tiny/train/")):
        if training.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"no metrics within {_WAIT_S} s")
        time.sleep(1)


def _what(path: str) -> str:
    """What a request is about: the name of an object without its number, or what is listed."""
    place, _, query = unquote(path).partition("?")
    if "list-type" in query:
        return "listing"
    return "/".join(place.rstrip("/").split("/")[-2:]).partition("@")[0]
