"""A watched command ends with its own error, whatever it leaves behind."""

import subprocess
import sys

import psutil

WATCH = """
import sys
from benchmarks.data.watch import watch
try:
    print("cpu", watch(["sh", "-c", sys.argv[1]], timeout_s=20).cpu_s)
except RuntimeError as error:
    print("error", error)
"""


def watched(script: str) -> str:
    """What `watch` says, in a process of its own: it adopts orphans, and ends all that is below it."""
    done = subprocess.run([sys.executable, "-c", WATCH, script], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_a_command_that_fails_is_not_waited_for_by_what_it_leaves() -> None:
    said = watched("sleep 1000.25 & echo no start; exit 3")
    assert "exit code 3" in said
    assert "no start" in said
    left = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "1000.25"]]
    assert psutil.wait_procs(left, timeout=10)[1] == []  # killed, and perhaps not reaped yet


def test_a_command_that_succeeds_is_waited_for_with_what_it_started() -> None:
    script = f"{sys.executable} -c 'import time; [time.sleep(0.01) for _ in range(100)]; sum(range(10**7))' & exit 0"
    assert float(watched(script).split()[1]) > 0.05
