"""Run every box of the data core's acceptance list and print PASS or FAIL with the evidence.

Run by `make accept-data`, or for selected boxes: `python -m benchmarks.acceptance.data 3 4`. Tests marked `accept(data=N)` are
evidence for box N. Boxes 1 and 2 also run `configs/education_local.yaml` on the corpora from `make corpora`: box 1 the whole
study, box 2 four preparations with near-duplicates removed. About 40 minutes in all on two cores.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.acceptance.evidence import REPOSITORY, check, check_results, run_boxes, run_tests

CLI = Path(sys.executable).with_name("cpt-ray")
STUDY = "configs/education_local.yaml"
SCRATCH = Path(tempfile.gettempdir()) / "cpt-ray-accept-data"
WORKERS = (1, 2, 4)
KILLED_AFTER_S = (25, 50)
CLAIMS = tuple(
    f"data.{name}"
    for name in (
        "tokenize_pack_ratio", "ray_efficiency", "pack_waste_share", "pack_ratio", "neardup_ratio", "neardup_recall_difference",
        "clean_agreement", "two_worker_speedup",
    )
)  # fmt: skip

evidence_of = functools.partial(run_tests, "data")


def cli(*arguments: str, log: str, kill_after_s: float | None = None) -> str:
    """Run `cpt-ray` and return its output; with `kill_after_s`, SIGKILL the driver at that point.

    Raises:
        AssertionError: If it fails, or finishes before it is killed.
    """
    SCRATCH.mkdir(exist_ok=True)
    path = SCRATCH / f"{log}.log"
    with path.open("w") as file:
        process = subprocess.Popen([str(CLI), *arguments], cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return path.read_text()
    check(kill_after_s is None, f"{arguments} finished before it could be killed")
    check(code == 0, f"cpt-ray {' '.join(arguments)} exited with code {code}: {path.read_text()[-800:]}")
    return path.read_text()


def make_corpora() -> None:
    """Do what `make corpora` does."""
    subprocess.run(
        [sys.executable, "-m", "benchmarks.data.corpora.packages"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL
    )


def manifest_of(root: Path) -> dict[str, Any]:
    """The manifest of the only shards artifact under a root."""
    (path,) = root.glob("shards/*/manifest.json")
    return dict(json.loads(path.read_text()))


def shard_hashes(root: Path) -> list[tuple[str, str]]:
    """Name and hash of every row and index file."""
    (folder,) = root.glob("shards/*")
    listed = json.loads((folder / "artifact.json").read_text())["files"]
    found = sorted((entry["path"], entry["sha256"]) for entry in listed if entry["path"].startswith("shards"))
    check(bool(found), f"no shards listed in {folder}")
    return found


def balance(manifest: dict[str, Any]) -> list[str]:
    """Check per source that each stage's input is what the previous stage kept, and report the totals.

    Raises:
        AssertionError: If a document or a byte is missing anywhere.
    """
    by_source: dict[str, list[dict[str, Any]]] = {}
    for report in manifest["reports"]:
        by_source.setdefault(report["source"], []).append(report)
    lines = []
    for source, reports in by_source.items():
        for report in reports:
            dropped = sum(count["documents"] for count in report["dropped"].values())
            check(
                report["input"]["documents"] == report["kept"]["documents"] + dropped,
                f"{source}, {report['stage']}: {report['input']} in, {report['kept']} kept, {report['dropped']} dropped",
            )
        for before, after in itertools.pairwise(reports):
            check(
                before["kept"]["documents"] == after["input"]["documents"], f"{source}: {before['stage']} to {after['stage']}"
            )
        lines.append(
            f"{source}: {reports[0]['input']['documents']} records in, {reports[-1]['kept']['documents']} documents packed"
        )
    return lines


def box_1_education() -> list[str]:
    """The education paper's study passes check and plan; its local twin runs through to a report."""
    lines = evidence_of(1)
    make_corpora()
    started = time.perf_counter()
    cli("run", STUDY, log="education")
    report = REPOSITORY / "runs" / "education-local" / "report.html"
    check(report.exists(), f"no {report}")
    headline = json.loads((report.parent / "comparison.json").read_text())["headline"]
    return [*lines, f"cpt-ray run {STUDY}: {time.perf_counter() - started:.0f} s, {report.relative_to(REPOSITORY)}", headline]


def box_2_conservation() -> list[str]:
    """Conservation on all corpora; identical shards with 1, 2 and 4 workers, and after the driver and a worker are killed."""
    lines = evidence_of(2)
    make_corpora()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    hashes: dict[str, list[tuple[str, str]]] = {}
    for name, workers, kills in (*((f"{n} workers", n, ()) for n in WORKERS), ("killed", 2, KILLED_AFTER_S)):
        root = SCRATCH / name.replace(" ", "-")
        duplicates = "prepare.near_duplicates.enabled=true"
        changes = (f"study.root={root}", duplicates, f"runtime.prepare_workers={workers}")
        if hashes:
            shutil.copytree(SCRATCH / f"{WORKERS[0]}-workers" / "models", root / "models")
        for number, seconds in enumerate(kills):
            cli("prepare", STUDY, *changes, log=f"killed-{number}", kill_after_s=seconds)
        cli("prepare", STUDY, *changes, log=name.replace(" ", "-"))
        hashes[name] = shard_hashes(root)
        lines += balance(manifest_of(root)) if name == f"{WORKERS[0]} workers" else []
    first = next(iter(hashes.values()))
    for name, found in hashes.items():
        check(found == first, f"{name}: {len(set(found) ^ set(first))} files differ from the run with {WORKERS[0]} workers")
    return [*lines, f"{len(first)} files, byte-identical: {', '.join(hashes)}"]


def box_3_duplicates_and_leaks() -> list[str]:
    """Near-duplicates of known clusters are found; planted leaks are found in question and answer, regardless of case."""
    return evidence_of(3, figures=["recall", "precision"])


def box_4_bad_input() -> list[str]:
    """Every bad input has a test; the fuzz runs for a bounded time."""
    return evidence_of(4)


def box_5_benchmarks() -> list[str]:
    """`make bench-data` is committed, with every claim; missed targets are named."""
    return check_results("data", CLAIMS, made_by="make bench-data")


BOXES: tuple[Callable[[], list[str]], ...] = (
    box_1_education,
    box_2_conservation,
    box_3_duplicates_and_leaks,
    box_4_bad_input,
    box_5_benchmarks,
)

if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
