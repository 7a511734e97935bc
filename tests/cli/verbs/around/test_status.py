"""The verb `status`, on made-up roots, on a bucket, and on a driver that is really killed."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from cpt_ray.cli.main import main
from cpt_ray.edges.store.addresses import mirror_of
from cpt_ray.records import StudyStatus
from cpt_ray.study.live.status.gather import gather
from cpt_ray.study.live.status.place import Place
from tests.cli.said import read_until
from tests.study.live.status.made_up_root import (
    LARGE,
    make_root,
    said_json,
    write_training,
)

CLEARED = "\x1b[H\x1b[2J"


def look(root) -> StudyStatus:
    return gather(Place(root, True, None))


def test_a_record_that_was_damaged_is_named(tmp_path, capsys):
    root = make_root(tmp_path / "runs")
    (root / "planned.json").write_text("{")
    assert main(["status", str(root)]) == 2
    assert f"{root}/planned.json: not what cpt-ray writes there" in capsys.readouterr().err


def test_json_is_all_of_it_and_watching_ends_with_the_command(tmp_path, capsys):
    root = make_root(tmp_path / "runs", released=True, outcome="done")
    assert main(["status", str(root), "--json", "--watch"]) == 0
    told, expected = said_json(capsys.readouterr().out), said_json(look(root).to_json())
    assert told.pop("driver").keys() == expected.pop("driver").keys()  # its heartbeat's age is another by now
    assert told == expected


def test_a_study_that_never_started_says_how_to_start_it(tiny, capsys):
    assert main(["status", str(tiny.config)]) == 0
    said = capsys.readouterr().out
    assert "state: never started" in said
    assert f"next: cpt-ray check {tiny.config}\n  or: cpt-ray run {tiny.config}" in said
    assert not tiny.root.exists()


def test_overrides_of_a_study_file_lead_to_its_root_and_are_typed_again(tiny, tmp_path, capsys):
    assert main(["status", str(tiny.config), f"study.root={tmp_path / 'else where'}"]) == 0
    said = capsys.readouterr().out
    assert f"study else where  {tmp_path / 'else where'}" in said
    assert f"  or: cpt-ray run {tiny.config} 'study.root={tmp_path / 'else where'}'" in said
    make_root(tmp_path / "study")
    assert main(["status", str(tmp_path / "study"), "study.root=x"]) == 2
    assert "fix: leave it out, or give the study file" in capsys.readouterr().err


_DRIVER = """
import sys, time
from pathlib import Path
from cpt_ray.config.load import load_study
from cpt_ray.study.study import StudyDriver
from cpt_ray.cli.console import TerminalConsole
sys.argv = ["cpt-ray", "prepare", sys.argv[1]]
path = Path(sys.argv[2])
with StudyDriver(load_study(path), path, TerminalConsole()) as study:
    study.note.reach("prepare")
    study.session.console.progress("  documents 1/2 units")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_real_driver_is_seen_alive_killed_and_done(tiny, capsys):
    driver = subprocess.Popen([sys.executable, "-c", _DRIVER, str(tiny.config)], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout.readline() == "ready\n"
        assert main(["status", str(tiny.config), "--json"]) == 0
        status = StudyStatus.from_json(capsys.readouterr().out)
        assert (status.state, status.driver.pid, status.command.verb) == ("running", driver.pid, "prepare")
        assert status.command.command == f"cpt-ray prepare {tiny.config}"
        assert [run.state for run in status.runs] == ["waiting"] * 4
        assert (status.verbs[0].done, status.verbs[0].artifacts) == (0, 6)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert main(["status", str(tiny.root)]) == 0
    said = capsys.readouterr().out
    assert "died: without a word" in said
    assert f"next: cpt-ray prepare {tiny.config}" in said


_TRAINING = """
import sys
from pathlib import Path
from cpt_ray.cli.console import TerminalConsole
from cpt_ray.config.load import load_study
from cpt_ray.study.study import StudyDriver
from cpt_ray.train.monitor.heartbeat import Heart
from cpt_ray.train.monitor.metrics import LineWriter
from tests.study.live.status.made_up_root import step
path = Path(sys.argv[1])
sys.argv = ["cpt-ray", "train", sys.argv[1]]
with StudyDriver(load_study(path), path, TerminalConsole()) as study:
    study.note.reach("train")
    run = next(node for node in study.graph.all() if node.stage.name == "train").folder
    heart, metrics = Heart(run, rank=0, world_size=1), LineWriter(run, "metrics", 1)
    for number in (1, 2):
        heart.beat("forward", number)
        metrics.write(step(number))
    heart.close()
    sys.stdin.readline()
"""


def test_a_watch_in_a_terminal_waits_for_a_study_follows_its_driver_and_ends_with_it(tiny):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "cpt_ray.cli.main", "status", str(tiny.config), "--watch"]
    watch = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env={**os.environ, "COLUMNS": "200"})
    driver = None
    os.close(follower)
    try:
        assert CLEARED in read_until(leader, "state: never started")
        read_until(leader, "waiting for its first command; Ctrl-C ends the watch")
        driver = subprocess.Popen([sys.executable, "-c", _TRAINING, str(tiny.config)], stdin=subprocess.PIPE, text=True)
        seen = read_until(leader, r"rank 0 entered phase forward of step 2")
        _, cleared, seen = seen.rpartition(CLEARED)
        assert cleared
        assert "state: running, train, for " in seen
        assert f"driver: process {driver.pid} on " in seen
        assert re.search(r"training .*loss 8\.800", seen)
        driver.communicate("\n", timeout=60)
        _, cleared, seen = read_until(leader, r"next: cpt-ray prepare ").rpartition(CLEARED)
        assert cleared
        assert "state: stopped, " in seen
        assert watch.wait(timeout=60) == 0
    finally:
        for process in (watch, driver):
            if process is not None:
                process.kill()
                process.wait()
        os.close(leader)


def test_a_study_in_a_bucket_is_read_without_touching_another_process_mirror(tmp_path, bucket, capsys):
    local = make_root(tmp_path / "runs", verb="train", host="elsewhere")
    write_training(local, LARGE, steps=17)
    for path in sorted(local.rglob("*")):
        if path.is_file():
            name = path.relative_to(local).as_posix()
            bucket.put(f"made/{name}@{0:012d}" if name.endswith(".jsonl") else f"made/{name}", path.read_bytes())
    assert main(["status", "s3://studies/made", "--json"]) == 0
    status = StudyStatus.from_json(capsys.readouterr().out)
    assert (status.root, status.state) == ("s3://studies/made", "running")
    assert status.driver.heartbeat_s < 20  # by the clock of the store
    assert status.runs[2].share == pytest.approx(0.25)
    assert len(status.runs[2].workers) == 2
    assert not mirror_of("s3://studies/made").exists()
    assert main(["status", "s3://studies/none"]) == 2
    assert "s3://studies/none holds no study" in capsys.readouterr().err


def test_a_driver_of_a_study_in_a_bucket_that_dies_has_left_its_last_words(tiny, bucket, tmp_path, capsys):
    config = tmp_path / "stored.yaml"
    config.write_text(tiny.config.read_text().replace(str(tiny.root), "s3://studies/dies"))
    environment = {**os.environ, "CPT_RAY_CACHE": str(tmp_path / "its own mirror")}
    driver = subprocess.Popen([sys.executable, "-c", _DRIVER, str(config)], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert driver.stdout.readline() == "ready\n"
        end = time.monotonic() + 60
        while not bucket.keys("dies/logs/") and time.monotonic() < end:
            time.sleep(0.2)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert main(["status", "s3://studies/dies"]) == 0
    said = capsys.readouterr().out
    assert "died: without a word" in said
    assert "last line of its log: " in said
    assert "cpt_ray.study.live.session: attempt 1: cpt-ray prepare" in said
    assert main(["logs", "s3://studies/dies"]) == 0
    assert capsys.readouterr().out.startswith("[driver] ")
