"""A driver that dies leaves nothing RUNNING: killed, ended by an error, or done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cpt_ray.edges.tracking.client import PARENT_TAG, all_runs, connect, experiment_id

ROOT = Path(__file__).parents[3]
DRIVER = """
    import os, sys, time
    from cpt_ray.cli.console import TerminalConsole
    from cpt_ray.study.findings.mirror import Mirror, MirrorTarget
    from tests.edges.tracking.test_store import SPEC, steps

    target = MirrorTarget(
        uri=sys.argv[1], experiment=sys.argv[2], study="s", identity="i", config={}, params={}, axes={},
        control_arms=frozenset(),
    )
    mirror = Mirror(target, TerminalConsole(quiet=True))
    tracking, parent = mirror.open()
    tracking.mirror_run(parent, SPEC, metrics=steps(3))
    if sys.argv[3] == "fork" and os.fork() == 0:
        time.sleep(30)  # a child that outlives the driver and holds its pipes
        os._exit(0)
    print("running", flush=True)
    if sys.argv[3] == "ends":
        mirror.close()
    elif sys.argv[3] == "fails":
        mirror.close(ValueError("x"))
    else:
        time.sleep(600)
"""


def statuses(server: str, experiment: str) -> set[str]:
    client = connect(server)
    runs = all_runs(client, experiment_id(client, server, experiment), "")
    assert len(runs) == 2
    assert sum(PARENT_TAG in run.data.tags for run in runs) == 1
    return {run.info.status for run in runs}


def start(server: str, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), server, how, how]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("how", ["killed", "fork"])
def test_a_driver_that_is_killed_leaves_nothing_running(server, how):
    driver = start(server, how)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "running\n"
    assert statuses(server, how) == {"RUNNING"}
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    for _ in range(120):
        if statuses(server, how) == {"KILLED"}:
            break
        time.sleep(0.5)
    assert statuses(server, how) == {"KILLED"}
    if how == "fork":
        os.killpg(driver.pid, signal.SIGKILL)


@pytest.mark.parametrize(("how", "status"), [("ends", "FINISHED"), ("fails", "FAILED")])
def test_a_driver_that_ends_says_so_itself_and_its_watcher_goes(server, how, status):
    driver = start(server, how)
    said, _ = driver.communicate(timeout=120)
    assert (said, driver.returncode) == ("running\n", 0)
    assert statuses(server, how) == {status}


def test_a_watcher_that_starts_slowly_finds_both_orders_at_once_and_goes():
    command = [sys.executable, "-m", "cpt_ray.edges.tracking.watcher"]
    watcher = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True)
    assert watcher.stdin is not None
    watcher.stdin.write(f'{{"uri": "", "experiment": "", "parent": "", "driver": {os.getpid()}}}\n{{"done": true}}\n')
    watcher.stdin.flush()
    try:
        assert watcher.wait(timeout=60) == 0
    finally:
        watcher.kill()
        watcher.stdin.close()
