"""A host whose network is cut while two groups train on simulated hosts without a shared disk, and healed while they go on.

A host that lost its network keeps its processes, which train on without knowing that they were declared dead; what they send
after the cut is healed must change nothing. The weights must be those of the same study on one machine in peace. Run as
`python -m benchmarks.cluster.link_cut`; needs root, and Debian's packages `iproute2`, `openssh-server` and `rsync`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.acceptance.evidence import check
from benchmarks.cluster.hosts import Hosts
from benchmarks.cluster.onprem import LAPTOP, OnPremCluster, moto_server
from benchmarks.cluster.three_hosts import ROOT, TEXTS, cpt_ray, ok, read_bucket_of, read_folder, study_for
from tests.integration.tiny_study import write_tiny_study

BUDGET = 150_000
RUNTIME = {"workers": 1, "parallel_runs": 2, "prepare_workers": 4}
OVERRIDES = (
    f"train.budgets=[{BUDGET}]",
    "train.checkpoint_every=10000",
    "arms.legal.max_epochs=99",
    "arms.control.max_epochs=99",
)
CUT_S = 60


def main() -> list[str]:
    """Run it; what was seen.

    Raises:
        AssertionError: If the job did not end well, no run had to move, or the weights differ.
    """
    with tempfile.TemporaryDirectory(prefix="cpt-cut-") as name:
        folder = Path(name)
        disk = write_tiny_study(folder / "disk")
        disk.change(runtime={"kind": "ray", **RUNTIME, "parallel_runs": 1})
        for verb in ("prepare", "train"):
            subprocess.run([*cpt_ray(), verb, str(disk.config), *OVERRIDES], check=True, capture_output=True)
        with Hosts(4, folder / "hosts") as hosts:
            return _cut(hosts, folder, read_folder(disk.root))


def _cut(hosts: Hosts, folder: Path, disk: dict[str, str]) -> list[str]:
    server, environment = moto_server(hosts, folder)
    try:
        # The head is left out: then a run is on one of the workers, whose link can be cut.
        study = study_for(hosts, {**RUNTIME, "use_head": False})
        ok(hosts, f"{_exports(environment)} python -m benchmarks.cluster.three_hosts put /tmp/study/inputs {TEXTS}")
        with OnPremCluster(hosts, folder, environment) as cluster:
            settings = " ".join(f"'{one}'" for one in (*OVERRIDES, f"study.root={ROOT}"))
            cluster.laptop(f"cd /tmp/study && {cluster.submission(f'cpt-ray prepare {study.config.name} {settings}')}")
            job = cluster.submission(f"cpt-ray train {study.config.name} {settings}")
            submitted = hosts.start(LAPTOP, f"cd /tmp/study && {job}", folder / "job.log")

            def seen() -> dict[str, str]:
                return read_bucket_of(hosts, environment, "/heartbeats/", "/attempts/")

            _wait(lambda: len(_trained_on(seen())) == 2, submitted, "both runs train")
            name, address = sorted(_trained_on(seen()).items())[0]
            host = int(address.removeprefix("h"))
            hosts.cut(host)
            cut = time.monotonic()
            _wait(lambda: _attempts(seen(), name) > 1, submitted, "the run is started on another host")
            moved_s = time.monotonic() - cut
            time.sleep(max(0.0, CUT_S - moved_s))
            hosts.heal(host)
            check(submitted.wait(900) == 0, f"the job did not end well: {(folder / 'job.log').read_text()[-3000:]}")
            stored = read_bucket_of(hosts, environment)
            cluster.down()
    finally:
        server.kill()
    return [f"h{host} cut for {CUT_S} s: {name} was started on the other host after {moved_s:.0f} s", *_same(disk, stored)]


def _trained_on(files: dict[str, str]) -> dict[str, str]:
    """The host of each run that trains."""
    beats = {path: json.loads(text) for path, text in files.items() if "/heartbeats/" in path}
    return {path.split("/")[1]: beat["host"] for path, beat in beats.items() if beat["step"] > 20}


def _attempts(files: dict[str, str], run: str) -> int:
    return sum(f"{run}/attempts/" in path for path in files)


def _same(disk: dict[str, str], stored: dict[str, str]) -> list[str]:
    weights = [name for name in disk if name.startswith("train/") and name.endswith("export/model.safetensors")]
    check(len(weights) == 2, f"{len(weights)} exports")
    other = [name for name in weights if disk[name] != stored.get(name)]
    check(not other, f"weights differ: {other}")
    return [f"{len(weights)} exports bit for bit those of one machine in peace"]


def _wait(happened: Callable[[], bool], job: subprocess.Popen[bytes], what: str) -> None:
    end = time.monotonic() + 600
    while not happened():
        check(job.poll() is None, f"the job ended before {what}")
        check(time.monotonic() < end, f"not within 600 s: {what}")
        time.sleep(2)


def _exports(environment: dict[str, str]) -> str:
    return "export " + " ".join(f"{name}={value}" for name, value in environment.items()) + ";"


if __name__ == "__main__":
    print(*main(), sep="\n")
