"""Measure the demo: the whole study from scratch, the same command again, and the gain from the tokens.

Run by `make bench-demo`; writes `benchmarks/results/demo.json`. The study runs in a separate folder, which is deleted first.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure.claims import POSITIVE, SHARE, Claim
from benchmarks.measure.record import write_results
from cpt_ray.records import Artifact, Comparison

REPOSITORY = Path(__file__).parents[2]
ROOT = REPOSITORY / "runs" / "bench-demo"


def run_demo(log: Path) -> float:
    """Run the demo study and return its wall seconds."""
    command = [sys.executable, "-m", "cpt_ray.cli.main", "run", "configs/demo.yaml", f"study.root={ROOT}"]
    started = time.perf_counter()
    with log.open("w") as stream:
        subprocess.run(command, cwd=REPOSITORY, stdout=stream, stderr=subprocess.STDOUT, check=True)
    return time.perf_counter() - started


def stage_seconds() -> dict[str, float]:
    """Wall seconds per stage, from the artifacts."""
    seconds: dict[str, float] = {}
    for path in sorted(ROOT.glob("*/*/artifact.json")):
        artifact = Artifact.load(path)
        seconds[artifact.stage] = seconds.get(artifact.stage, 0.0) + artifact.wall_s
    return seconds


def main() -> None:
    """Run, run again, read the comparison, write the claims."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    logs = ROOT.parent
    total = run_demo(logs / "bench-demo-first.log")
    again = run_demo(logs / "bench-demo-again.log")
    reused = (logs / "bench-demo-again.log").read_text().count("reused")
    comparison = Comparison.load(ROOT / "comparison.json")
    largest = max(point.tokens_seen for point in comparison.points)
    domain = [
        d for d in comparison.deltas if d.role == "domain" and d.measure == "bits_per_byte" and d.reference.endswith("-base")
    ]
    subjects = {p.run: p for p in comparison.points if p.arm == "legal"}
    delta = max((d for d in domain if d.subject in subjects), key=lambda d: subjects[d.subject].tokens_seen)
    raw_deltas = [delta.model_dump(mode="json") for delta in comparison.deltas]
    write_results(
        "demo",
        [
            Claim(
                id="demo.total_seconds",
                possible=POSITIVE,
                claim="the demo study from raw text to report, two CPU cores, after set-up",
                value=total,
                unit="s",
                target="<= 600",
                raw={"stages": stage_seconds(), "tokens_seen_largest": largest, "tokens_paid": comparison.tokens_paid},
            ),
            Claim(
                id="demo.rerun_seconds",
                possible=POSITIVE,
                claim="the same command again, redoing nothing",
                value=again,
                unit="s",
                target="<= 60",
                raw={"artifacts_reused": reused},
            ),
            Claim(
                id="demo.domain_gain_percent",
                possible=(-100.0, 100.0),
                claim="fall of bits per byte on held-out legal text at the largest budget; one seed, 95 % interval over "
                f"documents of the difference [{delta.interval.low:.4f}, {delta.interval.high:.4f}] bits per byte",
                value=-delta.relative_percent,
                unit="% of the base",
                target="> 0",
                compared_with="the base model, scored by the same command",
                raw={"verdict": comparison.verdict, "deltas": raw_deltas},
            ),
            Claim(
                id="demo.domain_interval_excludes_zero",
                possible=SHARE,
                claim="the domain gain at the largest budget is larger than its 95 % interval",
                value=int(delta.interval.high < 0),
                unit="1 = yes",
                target=">= 1",
                compared_with="the base model, paired by document",
            ),
        ],
    )


if __name__ == "__main__":
    main()
