"""Run every box of the GPU path's acceptance list that a CPU can prove, and print PASS or FAIL with the evidence.

Run by `make accept-gpu`, or for selected boxes: `python -m benchmarks.acceptance.gpu 1`. Box 1 packs a tiny bundle and runs it
in an environment with nothing but what a bare GPU host has; the other boxes run the tests marked `accept(gpu=N)`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks.acceptance.evidence import REPOSITORY, check, run_boxes, run_tests

HOST_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "pyarrow",
    "safetensors",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "pyyaml",
)
"""What a bare GPU host has; their versions here are those of requirements.lock."""
ABSENT = ("ray", "mlflow", "lm_eval", "rensa", "ftfy")
PARTS = ("facts", "tests", "speed", "peers", "scoring", "study", "profile", "large", "claims")
BROKEN = "profile"
LIMITS = {"tests": 300, "speed": 600, "peers": 240, "scoring": 120, "study": 600, "large": 240, "claims": 60, BROKEN: 1}
"""Seconds, on a CPU that compiles with a C++ compiler and does other things besides; the broken part gets too few."""


def _make_host(folder: Path) -> Path:
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").lower().splitlines()
    versions = [line for line in lock if line.split("==")[0] in HOST_PACKAGES]
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "-qq", "--disable-pip-version-check", "install", *versions], check=True)
    return python


def box_1() -> list[str]:
    """The bundle alone makes a result file of every part, without Ray and the like; a broken part costs only itself."""
    python_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory() as scratch:
        bundle, out = Path(scratch) / "bundle", Path(scratch) / "out"
        pack = [sys.executable, "-m", "benchmarks.gpu.pack", "--tiny", "--python", python_version, "--out", str(bundle)]
        packed = subprocess.run(pack, cwd=REPOSITORY, capture_output=True, text=True)
        check(packed.returncode == 0, packed.stdout[-500:] + packed.stderr[-1500:])
        python = _make_host(Path(scratch) / "host")
        imports = [str(python), "-c", f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"]
        present = subprocess.run(imports, capture_output=True, text=True, check=True).stdout.strip()
        check(present == "[]", f"the host has {present}")
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
            **{f"LIMIT_{name}": str(limit) for name, limit in LIMITS.items()},
            "BUNDLE": str(bundle),
            "OUT": str(out),
            "PYTHON": str(python),
            "TOTAL": "3600",
        }
        ran = subprocess.run(["bash", "benchmarks/gpu/run.sh"], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        if (out / "everything.tar.gz").is_file():
            with tarfile.open(out / "everything.tar.gz") as archive:
                archive.extractall(out, filter="data")
        lines = (out / "parts.jsonl").read_text(encoding="utf-8").splitlines() if (out / "parts.jsonl").is_file() else []
        codes = {part["part"]: part["exit_code"] for part in map(json.loads, lines)}
        failed = {name: codes.get(name) for name in PARTS if codes.get(name) != 0 and name != BROKEN}
        logs = "".join(
            (out / f"{name}.log").read_text(errors="replace")[-600:] for name in failed if (out / f"{name}.log").is_file()
        )
        check(not failed, f"parts that failed: {failed}\n{ran.stdout[-1500:]}{logs}")
        check(codes[BROKEN] != 0, f"{BROKEN} was to fail at its limit of {LIMITS[BROKEN]} s")
        missing = [
            name for name in ("facts", "speed", "peers", "scoring", "large", "gpu") if not (out / f"{name}.json").is_file()
        ]
        check(not missing and (out / "report.html").is_file(), f"no result file of {missing or 'study'}")
        sides = [json.loads((out / f"{name}.json").read_text(encoding="utf-8"))["sides"] for name in ("speed", "peers")]
        speed = {**sides[0], **sides[1]}
        errors = {name: side["error"] for name, side in speed.items() if "error" in side and "flash" not in name}
        check(not errors, f"sides that failed: {errors}")
        claims = [claim["id"] for claim in json.loads((out / "gpu.json").read_text(encoding="utf-8"))]
    return [
        f"{len(codes)} parts; {BROKEN}, given {LIMITS[BROKEN]} s, failed alone",
        f"sides of speed on this CPU: {', '.join(speed)}",
        f"claims made from it: {', '.join(claims)}",
    ]


def box_2() -> list[str]:
    """Compiled and eager losses agree on the CPU, and no row compiles again, in training and in scoring."""
    return run_tests("gpu", 2)


def box_3() -> list[str]:
    """Exports are the same with and without fusion; any ZeRO stage, resumed with compile and fusion on or off."""
    return run_tests("gpu", 3)


def box_4() -> list[str]:
    """The isolation self-test passes on the compiled path, and fails when the mask is taken out of it."""
    return run_tests("gpu", 4)


def box_5() -> list[str]:
    """Results of a GPU are committed, or docs/gpu.md says that none has run and what is untested."""
    results = REPOSITORY / "benchmarks" / "results" / "gpu.json"
    if results.is_file():
        return [f"{len(json.loads(results.read_text()))} claims in {results.relative_to(REPOSITORY)}"]
    text = (REPOSITORY / "docs" / "gpu.md").read_text(encoding="utf-8")
    check("has not run on a GPU" in text and "## Not tested" in text, "docs/gpu.md does not say what is untested")
    return ["no GPU has run this; docs/gpu.md lists what is untested"]


if __name__ == "__main__":
    sys.exit(run_boxes((box_1, box_2, box_3, box_4, box_5), sys.argv[1:]))
