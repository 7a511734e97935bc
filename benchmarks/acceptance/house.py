"""Run every box of the house's acceptance list and print PASS or FAIL with the evidence.

Run by `make accept-house`, or for selected boxes: `python -m benchmarks.acceptance.house 1 2`.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.acceptance.evidence import REPOSITORY, check, run_boxes
from tests.architecture.test_rooms import modules, untested

READERS = ("check", "plan", "inspect", "verify", "compare", "report")
MOST_CPU_S = 2.0
MOST_HELP_S = 0.3
LEAST_TESTED_SHARE = 0.9
STEPS = 10
TINY = """
from pathlib import Path
from tests.integration.tiny_study import write_tiny_study
print(write_tiny_study(Path({folder!r}), kind="local").config)
"""


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def _tests(*paths: str) -> str:
    done = _run(sys.executable, "-m", "pytest", *paths)
    check(done.returncode == 0, done.stdout[-2000:])
    return done.stdout.strip().splitlines()[-1]


def _cpu_s(*arguments: str) -> float:
    """CPU seconds of a command line, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _run(sys.executable, "-m", "cpt_ray.cli.main", *arguments)
    check(done.returncode == 0, f"{' '.join(arguments)}: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def box_1() -> list[str]:
    """The toy stage test; rooms of at most 12 entries; same-named tests for 90 %; walls and gates."""
    lines = [f"toy stage: {_tests('tests/study/stages/test_toy_stage.py')}", f"walls: {_tests('tests/architecture')}"]
    done = _run("make", "gates")
    check(done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:])
    share = 1 - len(untested()) / len(modules())
    lines.append(f"modules with a test of their name: {100 * share:.0f} % of {len(modules())}")
    check(share >= LEAST_TESTED_SHARE, "; ".join(lines))
    return lines


def box_2() -> list[str]:
    """Import and time limits; a worker's warning reaches console, log and report, shown on a small study trained for it."""
    lines = [f"imports: {_tests('tests/cli/test_light_verbs.py')}"]
    with tempfile.TemporaryDirectory() as folder:
        config = _run(sys.executable, "-c", TINY.format(folder=folder)).stdout.splitlines()[-1]
        study = (config, "train.micro_batch_size=3")  # four rows in micro-batches of three: a third is idle
        done = _run(sys.executable, "-m", "cpt_ray.cli.main", "run", *study)
        check(done.returncode == 0, done.stderr[-1000:])
        said = "of the computed rows are idle"
        logs = [path for path in Path(folder).rglob("logs/rank-*.log") if said in path.read_text(encoding="utf-8")]
        report = next(Path(folder).rglob("report.html")).read_text(encoding="utf-8")
        check(said in done.stderr, "the console does not show the warning")
        check(bool(logs), "no worker's log has the warning")
        check(said in report, "the report does not show the warning")
        lines.append(f"the warning that rows are idle: console, report, and {len(logs)} worker logs")
        seconds = {verb: _cpu_s(verb, *study) for verb in READERS} | {"--help": _cpu_s("--help")}
    lines.append("CPU seconds: " + ", ".join(f"{verb} {spent:.2f}" for verb, spent in seconds.items()))
    slow = [verb for verb, spent in seconds.items() if spent > (MOST_HELP_S if verb == "--help" else MOST_CPU_S)]
    check(not slow, f"over the CPU limit: {', '.join(slow)}; {lines[-1]}")
    return lines


def box_3() -> list[str]:
    """docs/architecture.md leads from `cpt-ray run` to the report in ten steps, each a file, and says how to add things."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\*\*\d+\. [^*]+\*\* `cpt_ray/[a-z_/]+\.py`", text, re.MULTILINE)
    check(len(steps) >= STEPS, f"{len(steps)} numbered steps name a file")
    for what in ("stage", "cleaning rule", "scorer", "figure"):
        check(what in text.lower(), f"nothing on how to add a {what}")
    return [f"{len(steps)} steps that name a file; {_tests('tests/docs')}"]


BOXES = [box_1, box_2, box_3]


if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
