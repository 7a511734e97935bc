"""A study on three hosts without a shared folder, its root and its texts in a bucket, against the same study on a disk.

Typed as cluster/README.md says: `ray up`, a job from a laptop that has only the study file and the base, `cpt-ray fetch`,
`ray down`. Run as `python -m benchmarks.cluster.three_hosts`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.acceptance.evidence import check
from benchmarks.cluster.hosts import Hosts
from benchmarks.cluster.onprem import LAPTOP, OnPremCluster, moto_server
from tests.integration.tiny_study import TinyStudy, write_tiny_study

ROOT, TEXTS = "s3://studies/tiny", "s3://studies/texts"
RUNTIME = {"workers": 2, "placement_strategy": "STRICT_SPREAD", "prepare_workers": 4}
_STEP = ("step", "loss", "gradient_norm", "sample_ids", "tokens_seen")


def main() -> list[str]:
    """Run it; what was seen.

    Raises:
        AssertionError: If the studies differ, a stage ran on one host only, or something of Ray is left.
    """
    with tempfile.TemporaryDirectory(prefix="cpt-hosts-") as name:
        folder = Path(name)
        disk = write_tiny_study(folder / "disk")
        disk.change(runtime={"kind": "ray", "workers": 2, "prepare_workers": 4})
        subprocess.run([*cpt_ray(), "run", str(disk.config)], check=True, capture_output=True)
        with Hosts(4, folder / "hosts") as hosts:
            return _on_hosts(hosts, folder, read_folder(disk.root))


def _on_hosts(hosts: Hosts, folder: Path, disk: dict[str, str]) -> list[str]:
    server, environment = moto_server(hosts, folder)
    try:
        study = study_for(hosts, RUNTIME)
        exports = " ".join(f"{name}={value}" for name, value in environment.items())
        python = f"export {exports}; python -m benchmarks.cluster.three_hosts"
        ok(hosts, f"{python} put /tmp/study/inputs {TEXTS}")
        with OnPremCluster(hosts, folder, environment) as cluster:
            said = cluster.laptop(
                f"cd /tmp/study && {cluster.submission(f'cpt-ray run {study.config.name} study.root={ROOT}', '')}", timeout=1800
            )
            check("done in" in said, f"the job did not end well: {said[-2000:]}")
            left = cluster.down()
            check(not left, f"still running after ray down: {left}")
        ok(hosts, f"export {exports}; cpt-ray fetch {ROOT} report /tmp/fetched")
        report = hosts.temporary(LAPTOP) / "fetched" / "report.html"
        check(report.is_file(), "the report was not fetched")
        stored = read_bucket_of(hosts, environment)
    finally:
        server.kill()
    return [*same(disk, stored), *_spread(stored), f"the report, {report.stat().st_size} bytes, is on the laptop"]


def study_for(hosts: Hosts, runtime: Mapping[str, Any]) -> TinyStudy:
    """The study file and the base, on the laptop; the texts are named in the bucket."""
    folder = hosts.temporary(LAPTOP) / "study"
    study = write_tiny_study(folder)
    text = study.config.read_text().replace(f"{folder}/inputs/law.jsonl", f"{TEXTS}/law.jsonl")
    text = text.replace(f"{folder}/inputs/news.jsonl", f"{TEXTS}/news.jsonl").replace(f"{folder}/", "")
    study.config.write_text(text)
    tree = yaml.safe_load(text)
    study.change(runtime={"kind": "ray", **runtime}, study={**tree["study"], "root": ROOT})
    return study


def same(disk: dict[str, str], stored: dict[str, str]) -> list[str]:
    """Compare shards and steps of two roots; what was compared.

    Raises:
        AssertionError: If they differ.
    """
    # Not the reports of units, which name the process and the node of each.
    named = (name for name in disk if name.startswith("shards/") and "/units/" not in name)
    shards = [name for name in named if name.endswith((".arrow", ".index.parquet"))]
    check(len(shards) > 10, f"only {len(shards)} shard files on the disk")
    other = [name for name in shards if disk[name] != stored.get(name)]
    check(not other, f"shards differ: {other[:3]}")
    one, two = (dict(_steps(files)) for files in (disk, stored))
    check(one == two, f"steps differ: {[run for run in one if one[run] != two.get(run)][:3]}")
    return [f"{len(shards)} shard files equal", f"{sum(map(len, one.values()))} steps of {len(one)} runs equal: ids and losses"]


def _spread(stored: dict[str, str]) -> list[str]:
    prepared = {json.loads(text)["node"] for name, text in stored.items() if "/units/" in name and name.endswith(".json")}
    trained = {json.loads(text)["host"] for name, text in stored.items() if "/heartbeats/" in name}
    for what, hosts in (("prepared", prepared), ("trained", trained)):
        check(len(hosts) >= 2, f"{what} on {sorted(hosts)} only")
    return [f"prepared on {', '.join(sorted(prepared))}", f"trained on {', '.join(sorted(trained))}"]


def _steps(files: dict[str, str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, text in files.items():
        if "/metrics/attempt-" in name:
            run = name.split("/")[1]
            yield run, [{key: line[key] for key in _STEP} for line in map(json.loads, text.splitlines())]


def read_folder(root: Path) -> dict[str, str]:
    """The files of a root: the text of records, the hash of everything else."""
    return {
        path.relative_to(root).as_posix(): content(path.name, path.read_bytes()) for path in root.rglob("*") if path.is_file()
    }


def read_bucket(root: str, *only: str) -> dict[str, str]:
    """The same of a root in a bucket; of a study that runs, only files with one of these parts in their names."""
    client, bucket, prefix = _client(root)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    keys = [key for key in keys if not only or any(part in key for part in only)]
    read = {key.removeprefix(f"{prefix}/"): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    return {name: content(name, data) for name, data in read.items() if "@" not in name}


def read_bucket_of(hosts: Hosts, environment: Mapping[str, str], *only: str) -> dict[str, str]:
    """The same, read on the laptop, which reaches the store."""
    exports = " ".join(f"{name}={value}" for name, value in environment.items())
    ok(hosts, f"export {exports}; python -m benchmarks.cluster.three_hosts get {ROOT} /tmp/content.json {' '.join(only)}")
    found: dict[str, str] = json.loads((hosts.temporary(LAPTOP) / "content.json").read_text())
    return found


def content(name: str, data: bytes) -> str:
    """The text of a record, the hash of anything else."""
    return data.decode() if name.endswith((".json", ".jsonl")) else hashlib.sha256(data).hexdigest()


def _client(url: str) -> tuple[Any, str, str]:
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return boto3.client("s3"), bucket, prefix


def _put(folder: Path, url: str) -> None:
    client, bucket, prefix = _client(url)
    client.create_bucket(Bucket=bucket)
    for path in folder.iterdir():
        client.upload_file(str(path), bucket, f"{prefix}/{path.name}")


def ok(hosts: Hosts, command: str) -> str:
    """Run a command in a fresh shell of the laptop; its output.

    Raises:
        AssertionError: If it fails.
    """
    done = hosts.on(LAPTOP, command)
    check(done.returncode == 0, f"{command}: {done.stdout[-2000:]}")
    return done.stdout


def cpt_ray() -> list[str]:
    """The command of this environment."""
    return [sys.executable, "-m", "cpt_ray.cli.main"]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["put", folder, url]:
            _put(Path(folder), url)
        case ["get", url, target, *only]:
            Path(target).write_text(json.dumps(read_bucket(url, *only)))
        case _:
            print(*main(), sep="\n")
