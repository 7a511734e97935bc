"""What planning a large grid takes, and how long the local studies of `make scaling` take, made and found made.

The grid is the demo with ten mixtures, ten rates and ten row lengths. `scaling` runs both local studies from nothing as
a user would, in the folders that they name; it refuses to begin where one of these exists.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.measure.claims import POSITIVE, Claim, ImpossibleError
from cpt_ray.cli.console import TerminalConsole
from cpt_ray.config.load import load_study
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.study import StudyDriver

ROOT = Path(__file__).parents[2]
CONFIGS = ("configs/ladder_local.yaml", "configs/legal_scaling_local.yaml")
FOLDERS = ("runs/ladder-local", "runs/legal-scaling-local")
SIDE = 10
_PLAN = """
import json, sys, time
from pathlib import Path
begin, cpu = time.monotonic(), time.process_time()
from cpt_ray.cli.main import main
code = main(["plan", sys.argv[1]])
# Not ru_maxrss, which begins with the peak of the process that forked this one.
status = Path("/proc/self/status").read_text().splitlines()
peak = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps({"code": code, "wall_s": time.monotonic() - begin, "cpu_s": time.process_time() - cpu, "peak_bytes": peak}))
"""


def write_grid(folder: Path) -> Path:
    """The demo as a grid of `SIDE` cubed cells."""
    tree = yaml.safe_load((ROOT / "configs/demo.yaml").read_text(encoding="utf-8"))
    tree["study"] |= {"root": str(folder / "root"), "max_cells": SIDE**3}
    shares = [0.5 + 0.05 * number for number in range(SIDE)]
    tree["axes"] = {
        "mix": {
            "key": "arms.legal.mix",
            "values": {f"licences{round(100 * s)}": {"licences": round(s, 2), "news": round(1 - s, 2)} for s in shares},
        },
        "factor": {"key": "train.learning_rate_factor", "values": [round(0.1 * (number + 1), 1) for number in range(SIDE)]},
        "length": {"key": "prepare.pack.sequence_length", "values": [512 + 32 * number for number in range(SIDE)]},
    }
    tree["train"]["deepspeed"] = str(ROOT / tree["train"]["deepspeed"])
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def measure_plan(rounds: int) -> list[Claim]:
    """Plan the grid in a process of its own; the middle of several rounds."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_grid(Path(folder))
        command = [sys.executable, "-c", _PLAN, str(path)]
        cold = json.loads(_output(command).splitlines()[-1])
        with StudyDriver(load_study(path), path, TerminalConsole(quiet=True)) as study:
            study.make_stage(MODELS)
        raw = [json.loads(_output(command).splitlines()[-1]) for _ in range(rounds)]
    if any(one["code"] != 0 for one in (cold, *raw)):
        raise ImpossibleError(f"the grid was refused: {raw}")
    seconds, peaks = sorted(one["cpu_s"] for one in raw), sorted(one["peak_bytes"] / 1e6 for one in raw)
    before = (
        f"before the base is imported, when its shape is read with torch: {cold['cpu_s']:.1f} CPU s, "
        f"{cold['peak_bytes'] / 1e6:.0f} MB"
    )
    return [
        Claim(
            id="grid.plan_1000_cells_s",
            claim=f"`cpt-ray plan` of a grid of {SIDE**3:,} cells, the base imported; the middle of {rounds} rounds",
            value=seconds[rounds // 2],
            unit="CPU s",
            spread=seconds[-1] - seconds[0],
            compared_with=before,
            possible=POSITIVE,
            target="<= 10",
            raw=raw,
        ),
        Claim(
            id="grid.plan_1000_cells_mb",
            claim="peak memory of the same process",
            value=peaks[rounds // 2],
            unit="MB",
            spread=peaks[-1] - peaks[0],
            compared_with=before,
            possible=POSITIVE,
            target="<= 500",
            raw=raw,
        ),
    ]


def measure_scaling() -> list[Claim]:
    """Run ladder and study from nothing, then the study once more."""
    there = [folder for folder in FOLDERS if (ROOT / folder).exists()]
    if there:
        raise ImpossibleError(f"{' and '.join(there)} exist; move them away to measure from nothing")
    times = {config: _run(config) for config in CONFIGS}
    again = _run(CONFIGS[1])
    minutes = sum(times.values()) / 60
    return [
        Claim(
            id="grid.local_scaling_minutes",
            claim="`make scaling` from nothing to both reports: three bases, then 3 sizes x 3 arms x 3 budgets x 2 seeds",
            value=minutes,
            unit="min",
            possible=POSITIVE,
            target="<= 45",
            raw=[times],
        ),
        Claim(
            id="grid.noop_run_s",
            claim="`cpt-ray run` of the finished study of 54 budgets, which finds everything made",
            value=again,
            unit="s",
            possible=POSITIVE,
            target="<= 15",
            raw=[{"wall_s": again}],
        ),
    ]


def _run(config: str) -> float:
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "cpt_ray.cli.main", "run", config], cwd=ROOT, check=True)
    return time.monotonic() - begin


def _output(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
