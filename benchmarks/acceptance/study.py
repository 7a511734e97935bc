"""Run every box of the study's acceptance list and print PASS or FAIL with the evidence.

Run by `make accept-study`, or for selected boxes: `python -m benchmarks.acceptance.study 3 4`. Box 1 clones the repository
into a new folder and sets it up from scratch; the other boxes use that clone's demo, or this checkout's if box 1 is left out.
About 40 minutes in all on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.acceptance.evidence import check, run_boxes
from benchmarks.acceptance.views import browser, mlflow_view

REPOSITORY = Path(__file__).parents[2]
CLONE = Path(tempfile.gettempdir()) / "cpt-ray-accept"


def shell(command: str, *, cwd: Path, log: str) -> tuple[str, float]:
    """Run a command, log its output, and return output and seconds.

    Raises:
        AssertionError: If it exits with a nonzero code.
    """
    started = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHONPATH"))}
    result = subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    (Path(tempfile.gettempdir()) / f"cpt-ray-accept-{log}.log").write_text(result.stdout)
    check(result.returncode == 0, f"{command!r} exited with code {result.returncode}: {result.stdout[-600:]}")
    return result.stdout, time.perf_counter() - started


def home() -> Path:
    """The checkout whose demo is checked."""
    return CLONE if list(CLONE.glob("runs/*demo/report.html")) else REPOSITORY


def root() -> Path:
    """The root folder of the demo's artifacts."""
    folder = home() / "runs" / "demo"
    if not (folder / "report.html").exists():
        folder = home() / "runs" / "bench-demo"
    check((folder / "report.html").exists(), f"no finished demo under {folder}: run make demo, make bench-demo or box 1")
    return folder


def box_1_clean_clone() -> list[str]:
    """A clean clone: the demo, the demo again, an override, the tests, CI."""
    shutil.rmtree(CLONE, ignore_errors=True)
    shell(f"git clone -q {REPOSITORY} {CLONE}", cwd=REPOSITORY, log="clone")
    _, setup_s = shell("make setup", cwd=CLONE, log="setup")
    first, first_s = shell("make demo", cwd=CLONE, log="demo")
    check("bits/byte" in first and "report:" in first, "make demo does not end with a summary table and a report path")
    check(first_s <= 600, f"make demo took {first_s:.0f} s")
    again, again_s = shell("make demo", cwd=CLONE, log="demo-again")
    check("  made  " not in again and again.count("reused") >= 10, "the second make demo redid work")
    check(again_s < 60, f"the second make demo took {again_s:.0f} s")
    changed, changed_s = shell(".venv/bin/cpt-ray run configs/demo.yaml train.learning_rate=1e-4", cwd=CLONE, log="override")
    stages = {line.split()[1].split("/")[0] for line in changed.splitlines() if line.startswith("  made  ")}
    kept = {line.split()[1].split("/")[0] for line in changed.splitlines() if line.startswith("  reused  ")}
    check(stages == {"train", "evaluate"}, f"the override rebuilt {sorted(stages)}")
    check({"models", "exams", "documents", "held_out", "shards"} <= kept, f"the override kept only {sorted(kept)}")
    tests, tests_s = shell("make test", cwd=CLONE, log="test")
    ci, ci_s = shell("CI=true bash .ci/run < /dev/null", cwd=CLONE, log="ci")
    check(ci_s < 1200, f".ci/run took {ci_s:.0f} s")
    return [
        f"make setup {setup_s:.0f} s, make demo {first_s:.0f} s, again {again_s:.0f} s",
        f"override rebuilt {sorted(stages)} in {changed_s:.0f} s and reused {sorted(kept)}",
        f"make test {tests_s:.0f} s: {tests.strip().splitlines()[-1]}",
        f".ci/run {ci_s:.0f} s: {ci.strip().splitlines()[-1]}",
        *[line for line in first.splitlines() if line.startswith("report:")],
    ]


def box_2_report_and_mlflow() -> list[str]:
    """The report and MLflow's UI in headless Chromium; screenshots of MLflow into docs/images, of the page by accept-answer."""
    check(shutil.which("chromium") is not None, "chromium is not installed")
    images = REPOSITORY / "docs" / "images"
    images.mkdir(exist_ok=True)
    report = root() / "report.html"
    (page,) = browser.look(report, [browser.View(width=1280)])
    check(len(page.plots) >= 4, f"only {len(page.plots)} panels are in sight")
    dom = report.read_text(encoding="utf-8")
    parts = [
        part for part in ("funnel", "loss", "token-scaling", "gain against forgetting", "provenance") if part in dom.lower()
    ]
    check(len(parts) == 5, f"only {parts} found in the report")
    seen = mlflow_view.photograph_study(root() / "mlflow.db", images)
    return [f"five parts in the DOM, {len(page.plots)} panels in sight", *seen]


def box_3_killed_worker() -> list[str]:
    """A training worker is killed (kill -9) mid-run."""
    output, seconds = shell(
        f"{sys.executable} -m pytest tests/train/test_launch.py -v -p no:randomly", cwd=REPOSITORY, log="kill"
    )
    lines = [line for line in output.splitlines() if "PASSED" in line]
    check(any("kill" in line for line in lines), "no killed-worker test ran")
    return [*lines, f"{seconds:.0f} s"]


def box_4_ledger() -> list[str]:
    """Funnel rows, shard tokens and run tokens add up, and a raw document is found in a packed row."""
    import numpy as np
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    from cpt_ray.data.rows.shards import ShardReader
    from cpt_ray.records import RunRecord, ShardManifest

    folder = next(root().glob("shards/*/manifest.json")).parent
    manifest = ShardManifest.load(folder / "manifest.json")
    for report in manifest.reports:
        report.check()
    for entry in manifest.shards:
        check(entry.tokens == entry.tokenizer_tokens + entry.separator_tokens, f"{entry.unit}: tokens and separators")
        check(entry.rows * manifest.sequence_length == entry.tokens + entry.padding, f"{entry.unit}: slots")
        check(entry.loss_tokens == entry.tokens - entry.segments, f"{entry.unit}: loss-bearing tokens")
    runs = [RunRecord.load(path) for path in sorted(root().glob("train/*/run.json"))]
    check(len(runs) >= 4, f"{len(runs)} runs")
    for run in runs:
        if run.budget_tokens is not None:
            over = run.tokens_seen - run.budget_tokens
            check(0 <= over < 4 * manifest.sequence_length, f"{run.run}: {over} tokens over its budget")
    tokenizer = AutoTokenizer.from_pretrained(next(root().glob("models/*/tokenizer.json")).parent)
    entry = next(e for e in manifest.shards if e.source == "licences")
    index = pq.read_table(folder / entry.index_path).to_pylist()
    whole = next(piece for piece in index if piece["part"] == 0 and 100 < piece["tokens"] < manifest.sequence_length)
    row = ShardReader(folder, manifest).rows("licences", [whole["row"]])[0]
    text = tokenizer.decode(row.tokens)
    raw = next(Path(p) for p in _license_files() if Path(p).stem == whole["document_id"])
    words = raw.read_text(errors="replace").split("---", 2)[-1].split()
    probe = " ".join(words[5:15])
    found = probe in " ".join(text.split())
    check(found, f"{raw.name}: {probe!r} is not in row {whole['row']}")
    tokens, shards = int(np.sum([e.tokens for e in manifest.shards])), len(manifest.shards)
    return [
        f"{len(manifest.reports)} stage reports add up; {tokens} tokens = tokenizer + separators in {shards} shards",
        *[f"{r.run}: {r.tokens_seen} of {r.budget_tokens}" for r in runs if r.budget_tokens],
        f"raw {raw.name}: {probe!r} found in decoded row {whole['row']}",
    ]


def box_5_processes_and_plants() -> list[str]:
    """Distinct worker processes, planted documents, and the self-test's control."""
    from cpt_ray.records import RunRecord, ShardManifest

    manifest = ShardManifest.load(next(root().glob("shards/*/manifest.json")))
    evidence = []
    for stage, pids in manifest.task_pids.items():
        check(len(set(pids)) >= 2, f"stage {stage} ran in only {len(set(pids))} process")
        evidence.append(f"{stage}: {len(set(pids))} processes")
    for path in sorted(root().glob("train/*/run.json")):
        run = RunRecord.load(path)
        check(len(set(run.training.worker_pids)) >= 2, f"{run.run} trained in one process")
        check(run.training.last.self_test is not None and run.training.last.self_test.passed, f"{run.run}: self-test")
        if run.training.last.self_test:
            proof = run.training.last.self_test
            evidence.append(
                f"{run.run}: {len(set(run.training.worker_pids))} workers; "
                f"packed vs. alone {proof.masked_difference:.2g} nats, "
                f"mask off {proof.unmasked_difference:.2g} (limit {proof.allowed_difference:.2g})"
            )
    output, _ = shell(
        f"{sys.executable} -m pytest tests/data tests/model/attention/test_isolation.py -v "
        "-k 'planted or leak or duplicate or mask_is_off'",
        cwd=REPOSITORY,
        log="plants",
    )
    passed = [line for line in output.splitlines() if "PASSED" in line]
    check(any("leak" in line for line in passed) and any("mask_is_off" in line for line in passed), "no planted-document tests")
    return [*evidence, *passed]


def box_6_gpu() -> list[str]:
    """The same demo on a GPU."""
    results = REPOSITORY / "benchmarks" / "results" / "demo_gpu.json"
    check(
        results.exists(), "no GPU machine was available: the GPU path is written, its tests are marked gpu, and it has not run"
    )
    return [f"{claim['id']}: {claim['value']} {claim['unit']}" for claim in json.loads(results.read_text())]


def _license_files() -> list[str]:
    from cpt_ray.edges.source_files import list_source_files

    uris = ("licenses/*.LICENSE", "rules/*.RULE")
    return [path for uri in uris for path, *_ in list_source_files(f"package://licensedcode-data/licensedcode/data/{uri}")]


BOXES: tuple[Callable[[], list[str]], ...] = (
    box_1_clean_clone,
    box_2_report_and_mlflow,
    box_3_killed_worker,
    box_4_ledger,
    box_5_processes_and_plants,
    box_6_gpu,
)


if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
