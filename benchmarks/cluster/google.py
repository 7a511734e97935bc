"""A study with its root on `gs://`, against the same study on a disk: the same shards, sample ids and losses.

Google's storage itself needs an account. Its client, which is in pyarrow, talks to an emulator instead
(`google_server.py`, in an environment of its own): requests, answers and errors are real, credentials and quotas are not tried.
Run as `python -m benchmarks.cluster.google`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from pyarrow import fs

from benchmarks.acceptance.evidence import check
from benchmarks.cluster.three_hosts import content, cpt_ray, read_folder, same
from benchmarks.measure.environments import python_with
from cpt_ray.edges.store.addresses import CACHE
from tests.integration.tiny_study import write_tiny_study

EMULATOR = "gcp-storage-emulator==2026.7.19"
ROOT = "gs://studies/tiny"
OVERRIDES = ("runtime.kind=local", "tracking.enabled=false", "train.budgets=[2000]")
_START_S = 60


def main() -> list[str]:
    """Run it; what was seen.

    Raises:
        AssertionError: If the studies differ, or the report cannot be fetched from the root alone.
    """
    with tempfile.TemporaryDirectory(prefix="cpt-google-") as name:
        folder = Path(name)
        study = write_tiny_study(folder / "study")
        subprocess.run([*cpt_ray(), "run", str(study.config), *OVERRIDES], check=True, capture_output=True)
        with _emulator(folder) as environment:
            on_node = {**environment, CACHE: str(folder / "node")}
            command = [*cpt_ray(), "run", str(study.config), f"study.root={ROOT}", *OVERRIDES]
            subprocess.run(command, env=on_node, check=True, capture_output=True)
            elsewhere = {**environment, CACHE: str(folder / "laptop")}
            subprocess.run([*cpt_ray(), "report", ROOT], env=elsewhere, check=True, capture_output=True)
            subprocess.run([*cpt_ray(), "fetch", ROOT, "report", str(folder / "fetched")], env=elsewhere, check=True)
            report = folder / "fetched" / "report.html"
            check(report.is_file(), "the report was not fetched")
            stored = _read(environment)
        told = f"the report, {report.stat().st_size} bytes, is made and fetched from the root alone"
        return [*same(read_folder(study.root), stored), told]


@contextmanager
def _emulator(folder: Path) -> Iterator[Mapping[str, str]]:
    """Within, it runs; yields the environment in which Google's client talks to it."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python, script = python_with(f"google-{EMULATOR}", [EMULATOR]), Path(__file__).with_name("google_server.py")
    with (folder / "emulator.log").open("w") as log:
        server = subprocess.Popen([python, script, str(port)], stdout=log, stderr=log)
        try:
            _wait_for(port)
            yield {**os.environ, "CLOUD_STORAGE_EMULATOR_ENDPOINT": f"http://127.0.0.1:{port}"}
        finally:
            server.kill()
            server.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            check(time.monotonic() < until, f"the emulator did not start within {_START_S} s")
            time.sleep(0.2)
        else:
            return


def _read(environment: Mapping[str, str]) -> dict[str, str]:
    """The objects of the root, read without this project's code."""
    endpoint = environment["CLOUD_STORAGE_EMULATOR_ENDPOINT"].removeprefix("http://")
    store, prefix = fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=endpoint), ROOT.removeprefix("gs://")
    found = store.get_file_info(fs.FileSelector(prefix, recursive=True))
    read = {one.path.removeprefix(f"{prefix}/"): store.open_input_file(one.path).read() for one in found if one.is_file}
    return {name: content(name, data) for name, data in read.items() if "@" not in name}


if __name__ == "__main__":
    print(*main(), sep="\n")
