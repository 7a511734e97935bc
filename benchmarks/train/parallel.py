"""How much sooner a study is trained with its runs side by side: trunk, two branches and a control on six logical CPUs.

Run by `make bench-parallel`; writes `benchmarks/results/scale.json`. The same prepared study is trained by `cpt-ray train` as a
user runs it, in one group of one worker and in as many as the simulated cluster holds; Ray runs already, the groups' starts are
part of both times. Each worker has one thread, so that two cores compute two runs at once: a third group shares them. The two
sides take turns study by study, and their weights must be the same bit for bit.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.record import RESULTS, write_results
from cpt_ray.records import RunRecord
from tests.chaos.cluster import SimulatedCluster
from tests.integration.tiny_study import TinyStudy, write_tiny_study

CPUS = 6
SERIAL, PARALLEL = "1", "auto"
_MANY = 10_000


@dataclass(frozen=True)
class Trained:
    """One study, trained."""

    groups: str
    """`runtime.parallel_runs`."""
    seconds: float
    load: float
    """One-minute load average before the start: above 1, the machine was not quiet."""
    intervals: dict[str, tuple[str, str]]
    """From when to when each run was trained."""

    @property
    def overlaps(self) -> int:
        """Pairs of runs that trained at the same time."""
        pairs = itertools.combinations(self.intervals.values(), 2)
        return sum(one[0] < other[1] and other[0] < one[1] for one, other in pairs)


def train(study: TinyStudy, cluster: SimulatedCluster, groups: str, tokens: int) -> Trained:
    """Train a prepared study to a quarter of a budget and to all of it."""
    overrides = (
        *("runtime.kind=ray", "runtime.workers=1", f"runtime.parallel_runs={groups}", "tracking.enabled=false"),
        *(f"train.budgets=[{tokens // 4}, {tokens}]", f"train.checkpoint_every={tokens}"),
        *(f"arms.{arm}.max_epochs={_MANY}" for arm in ("legal", "control")),
    )
    load, started = os.getloadavg()[0], time.perf_counter()
    command = [sys.executable, "-m", "cpt_ray.cli.main", "train", str(study.config), *overrides]
    subprocess.run(command, env=cluster.environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    found = {record.run: record.training.interval for record in records(study) if record.training is not None}
    return Trained(groups, seconds, load, found)


def records(study: TinyStudy) -> list[RunRecord]:
    """The records of a study's runs."""
    return [RunRecord.load(path) for path in sorted(study.root.glob("train/*/run.json"))]


def require_same_weights(one: TinyStudy, other: TinyStudy) -> None:
    """Compare all exports bit by bit.

    Raises:
        RuntimeError: If two differ, or there are none.
    """
    exports = [
        [load_file(Path(r.export_path) / "model.safetensors") for r in records(s) if r.export_path] for s in (one, other)
    ]
    pairs = list(zip(*exports, strict=True))
    if not pairs or not all(torch.equal(mine[name], theirs[name]) for mine, theirs in pairs for name in mine | theirs):
        raise RuntimeError("runs side by side have other weights than one after another")


def measure(folder: Path, tokens: int, rounds: int) -> Claim:
    """Train both sides in turns."""
    prepared = write_tiny_study(folder / "prepared", kind="local")
    command = [sys.executable, "-m", "cpt_ray.cli.main", "prepare", str(prepared.config)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done: list[tuple[Trained, Trained]] = []
    with SimulatedCluster(nodes=1, cpus=CPUS) as cluster:
        for number in range(rounds):
            studies = [prepared.copy(folder / f"{groups}-{number}") for groups in (SERIAL, PARALLEL)]
            serial, parallel = (train(study, cluster, g, tokens) for study, g in zip(studies, (SERIAL, PARALLEL), strict=True))
            require_same_weights(*studies)
            print(f"one after another {serial.seconds:.0f} s, side by side {parallel.seconds:.0f} s", flush=True)
            done.append((serial, parallel))
    shares = [parallel.seconds / serial.seconds for serial, parallel in done]
    stderr = statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    fewest = min(parallel.overlaps for _, parallel in done)
    return Claim(
        id="scale.parallel_time_share",
        claim=f"training a trunk, two branches and a control of {tokens:,} tokens side by side on {CPUS} logical CPUs of "
        f"{os.cpu_count()} cores, the groups' starts included; at least {fewest} pairs of runs overlapped; the same weights",
        value=statistics.median(shares),
        spread=stderr,
        unit="share of the time",
        possible=POSITIVE,
        target="<= 0.6",
        work=(rounds, "rounds"),
        compared_with="one after another in one group",
        raw=[[asdict(one) | {"overlaps": one.overlaps} for one in pair] for pair in done],
    )


def main() -> None:
    """Measure and write the claim."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round; results go to a temporary folder")
    parser.add_argument("--tokens", type=int, default=4_800_000, help="the largest budget")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-parallel-") as folder:
        tokens, rounds = (40_000, 1) if options.quick else (options.tokens, options.rounds)
        claim = measure(Path(folder), tokens, rounds)
    write_results("scale", [claim], folder=Path(tempfile.mkdtemp()) if options.quick else RESULTS, merge=True)


if __name__ == "__main__":
    main()
