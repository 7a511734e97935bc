"""Run every box of the inputs' acceptance list and print PASS or FAIL with the evidence.

Run by `make accept-inputs`, or for selected boxes: `python -m benchmarks.acceptance.inputs 1 6`. The evidence of a box are the
tests marked with its number, `accept(inputs=N)`, those marked `full` included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.acceptance.evidence import REPOSITORY, check, run_boxes, run_tests
from cpt_ray.config.load import load_study
from cpt_ray.edges.packages import resolve_package
from tests.docs.own_study import write_own_study

MOST_CPU_S = 2.0
SLACK_BYTES = 20_000_000
"""What `check` may read of the demo's texts, of which it looks at a sample."""
MEASURE = """
import json, resource, sys
from cpt_ray.cli.main import main
code = main(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_SELF)
fields = dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())
print(json.dumps({"code": code, "cpu_s": usage.ru_utime + usage.ru_stime, "read_bytes": int(fields["rchar"])}))
"""


def _measured(*arguments: str) -> dict[str, float]:
    """CPU seconds and bytes read of a command line, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    check(done.returncode == 0, done.stderr[-1000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    check(found["code"] == 0, done.stdout[-1000:] + done.stderr[-1000:])
    return found


def box_1() -> list[str]:
    """Every field case gives its right value, with documents in, kept and dropped; further members of each kind."""
    return run_tests("inputs", 1)


def box_2() -> list[str]:
    """The fuzz of study files: no traceback, nothing over ten seconds or 1 GB."""
    return run_tests("inputs", 2)


def box_3() -> list[str]:
    """Web servers that cut, refuse, are busy or lack ranges; planted secrets found in no file, log or message."""
    return run_tests("inputs", 3)


def box_4() -> list[str]:
    """Documents with one label are kept apart in scores, trace, shard index and report."""
    return run_tests("inputs", 4)


def box_5() -> list[str]:
    """The README's own study passes `check` as pasted and runs to a report on folders of text files."""
    return run_tests("inputs", 5)


def box_6() -> list[str]:
    """`check` on the demo takes at most 2 s of CPU; proving a base costs at most one read of its files."""
    base = Path(resolve_package(load_study(REPOSITORY / "configs" / "demo.yaml").models[0].base)).stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        demo = _measured("check", "configs/demo.yaml", f"study.root={Path(folder) / 'demo'}")
        tiny = _measured("check", str(write_own_study(Path(folder), documents=40)))
    read = demo["read_bytes"] - tiny["read_bytes"]
    lines = [
        f"check on the demo: {demo['cpu_s']:.2f} s of CPU",
        f"it reads {read / 1e6:.0f} MB more than on a tiny study; its base has {base / 1e6:.0f} MB",
    ]
    check(demo["cpu_s"] <= MOST_CPU_S, lines[0])
    check(read <= base + SLACK_BYTES, lines[1])
    return lines


BOXES = [box_1, box_2, box_3, box_4, box_5, box_6]


if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
