"""A study with its root on `gs://`, against the same study on a disk: the same shards, sample ids and losses.

Google's storage itself needs an account. Its client, which is in pyarrow, talks to an emulator instead
(`google_server.py`, in an environment of its own): requests, answers and errors are real, credentials and quotas are not tried.
Run as `python -m benchmarks.cluster.google`.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from pyarrow import fs

from benchmarks.acceptance.evidence import check
from benchmarks.cluster.three_hosts import content, cpt_ray, read_folder, same
from benchmarks.measure.environments import python_with
from benchmarks.measure.local_server import local_server
from cpt_ray.edges.store.addresses import CACHE
from tests.integration.tiny_study import write_tiny_study

EMULATOR = "gcp-storage-emulator==2026.7.19"
ROOT = "gs://studies/tiny"
OVERRIDES = ("runtime.kind=local", "tracking.enabled=false", "train.budgets=[2000]")


def main() -> list[str]:
    """Run it; what was seen.

    Raises:
        AssertionError: If the studies differ, or the report cannot be fetched from the root alone.
    """
    with tempfile.TemporaryDirectory(prefix="cpt-google-") as name:
        folder = Path(name)
        study = write_tiny_study(folder / "study")
        subprocess.run([*cpt_ray(), "run", str(study.config), *OVERRIDES], check=True, capture_output=True)
        with _emulator() as address:
            environment = {**os.environ, "CLOUD_STORAGE_EMULATOR_ENDPOINT": address}
            on_node = {**environment, CACHE: str(folder / "node")}
            command = [*cpt_ray(), "run", str(study.config), f"study.root={ROOT}", *OVERRIDES]
            subprocess.run(command, env=on_node, check=True, capture_output=True)
            elsewhere = {**environment, CACHE: str(folder / "laptop")}
            subprocess.run([*cpt_ray(), "report", ROOT], env=elsewhere, check=True, capture_output=True)
            subprocess.run([*cpt_ray(), "fetch", ROOT, "report", str(folder / "fetched")], env=elsewhere, check=True)
            report = folder / "fetched" / "report.html"
            check(report.is_file(), "the report was not fetched")
            stored = _read(address)
        told = f"the report, {report.stat().st_size} bytes, is made and fetched from the root alone"
        return [*same(read_folder(study.root), stored), told]


def _emulator() -> AbstractContextManager[str]:
    """Within, it runs; gives its address."""
    python, script = python_with(f"google-{EMULATOR}", [EMULATOR]), Path(__file__).with_name("google_server.py")
    return local_server(lambda port: [python, script, str(port)], health="/storage/v1/b/studies")


def _read(address: str) -> dict[str, str]:
    """The objects of the root, read without this project's code."""
    endpoint = address.removeprefix("http://")
    store, prefix = fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=endpoint), ROOT.removeprefix("gs://")
    found = store.get_file_info(fs.FileSelector(prefix, recursive=True))
    read = {one.path.removeprefix(f"{prefix}/"): store.open_input_file(one.path).read() for one in found if one.is_file}
    return {name: content(name, data) for name, data in read.items() if "@" not in name}


if __name__ == "__main__":
    print(*main(), sep="\n")
