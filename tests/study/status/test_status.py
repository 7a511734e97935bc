"""What another shell learns of a study from its root: where it is, whether its driver lives, and what to type."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from cpt_ray.cli.main import main
from cpt_ray.edges.lease import Lease
from cpt_ray.edges.store.addresses import mirror_of
from cpt_ray.records import StudyStatus
from cpt_ray.study.status.gather import gather
from cpt_ray.study.status.place import Place
from cpt_ray.study.status.text import render_status, sparkline
from cpt_ray.train.monitor.metrics import last_steps, read_metrics
from tests.study.status.made_up_root import (
    LARGE,
    SMALL,
    TRUNK,
    files,
    make_all_done,
    make_done,
    make_root,
    said_json,
    step,
    write_steps,
    write_training,
)

GONE = 2**22 - 1
"""No process has this id on a machine with the usual limit."""


def look(root) -> StudyStatus:
    return gather(Place(root, True, None))


def test_a_run_in_training_is_shown_with_its_share_rate_time_left_losses_workers_and_events(tmp_path):
    root = make_root(tmp_path / "runs", verb="train", doing="run 1/3", doing_since=time.time() - 4)
    make_done(root, ("documents", "m"))
    write_training(root, TRUNK, steps=8)
    before = files(root)
    status = look(root)
    assert files(root) == before
    assert (status.state, status.driver.alive) == ("running", True)
    assert [(one.verb, one.done, one.artifacts) for one in status.verbs] == [
        ("prepare", 1, 1), ("train", 0, 3), ("evaluate", 0, 1),
    ]  # fmt: skip
    trunk, small, large = status.runs
    assert (trunk.state, trunk.share, trunk.tokens, trunk.tokens_per_s, trunk.eta_s) == ("training", 0.5, 400, 50.0, 8.0)
    assert (small.state, large.state) == ("waiting", "waiting")
    assert status.eta_s == pytest.approx((400 + 100 + 200) / 50)
    assert trunk.losses[-1] == pytest.approx(8.2)
    assert trunk.events == ("step 3  resume: from step 2", "step 5  loss spike: loss 9.1, usually 8.2")
    text = render_status(status)
    assert "state: running, train, for 10 min" in text
    assert f"driver: process {os.getpid()} on " in text
    assert ", attempt 2, heartbeat 3 s ago" in text
    assert "now: run 1/3  (4 s ago)" in text
    assert "made: prepare 1/1, train 0/3, evaluate 0/1; training left: 14 s at this rate" in text
    assert f"{TRUNK}  training  50 %  400/800 tokens  ETA 8 s  50 tokens/s  loss 8.200  █▇▆▅▄▃▂▁" in text
    assert "workers: 1 on node-0, 1 on node-1; attempt 1; rank 1 entered phase forward of step 8 12 s ago" in text
    assert text.splitlines()[-1] == f"next: cpt-ray logs {root} --follow"


def test_several_runs_train_side_by_side_and_a_branch_counts_from_its_start(tmp_path):
    root = make_root(tmp_path / "runs", verb="train")
    make_done(root, ("documents", "m"))
    write_training(root, TRUNK, steps=12)
    write_steps(root / f"train/{SMALL}-0123abcd", [step(9)])
    status = look(root)
    assert [run.share for run in status.runs] == [0.75, 0.5, None]
    assert status.eta_s == pytest.approx((200 + 50 + 200) / 100)
    assert render_status(status).count("  training  ") == 2


def test_more_runs_than_a_screen_holds_are_counted(tmp_path):
    status = look(make_root(tmp_path / "runs"))
    many = [status.runs[0].model_copy(update={"name": f"r{n}", "state": "done" if n < 30 else "waiting"}) for n in range(60)]
    text = render_status(status.model_copy(update={"runs": tuple(many)}))
    assert "  and 40 more: 10 waiting, 30 done" in text


@pytest.mark.parametrize(("pid", "host", "renewed"), [(GONE, None, 3.0), (None, "elsewhere", 40.0)])
def test_a_driver_that_was_killed_is_told_with_its_last_words(tmp_path, pid, host, renewed):
    root = make_root(tmp_path / "runs", pid=pid, host=host, verb="train", doing="step 7 of the trunk", folder="/else where")
    lease = Lease.load(root / "lease.json")
    (root / "lease.json").write_text(lease.model_copy(update={"renewed": time.time() - renewed}).to_json())
    (root / "logs").mkdir()
    (root / "logs" / "driver.log").write_text("2026-01-01 00:00:00,000 INFO x: made shards\n\n")
    status = look(root)
    assert (status.state, status.driver.alive) == ("died", False)
    text = render_status(status)
    assert f"is gone: last heartbeat {renewed:.0f} s ago" in text
    assert "died: without a word, so it was killed (SIGKILL, out of memory), or its machine went away" in text
    assert "  then: step 7 of the trunk" in text
    assert "last line of its log: 2026-01-01 00:00:00,000 INFO x: made shards" in text
    assert text.splitlines()[-2:] == ["next: cd '/else where' && cpt-ray run my.yaml", f"  or: cpt-ray logs {root} --errors"]


def test_a_command_that_failed_is_told_with_its_error_and_fix(tmp_path):
    facts = {"outcome": "failed", "ended": time.time() - 60, "error": "no space on /data", "fix": "free some"}
    text = render_status(look(make_root(tmp_path / "runs", released=True, **facts)))
    assert "state: failed, 60 s ago" in text
    assert "error: no space on /data\n  fix: free some\n" in text
    assert "next: cpt-ray run my.yaml" in text


@pytest.mark.parametrize(
    ("outcome", "made", "state", "typed"),
    [
        ("interrupted", ("documents",), "interrupted", "cpt-ray run my.yaml"),
        ("done", (), "stopped", "cpt-ray prepare my.yaml"),
        ("done", ("documents",), "stopped", "cpt-ray train my.yaml"),
    ],
)
def test_a_study_that_stands_still_says_the_next_verb(tmp_path, outcome, made, state, typed):
    root = make_root(tmp_path / "runs", released=True, outcome=outcome, ended=time.time())
    make_done(root, *((stage, "m") for stage in made))
    status = look(root)
    assert status.state == state
    assert status.next == (typed,)


def test_a_finished_study_names_its_report(tmp_path):
    root = make_root(tmp_path / "runs", released=True, outcome="done", ended=time.time())
    make_all_done(root)
    status = look(root)
    assert status.state == "finished"
    assert status.report == str(root / "report.html")
    assert status.next == (f"python -m webbrowser {root}/report.html",)


def test_without_the_report_it_is_not_finished(tmp_path):
    root = make_root(tmp_path / "runs", released=True, outcome="done")
    make_all_done(root)
    (root / "report.html").unlink()
    assert look(root).next == ("cpt-ray report my.yaml",)


def test_a_new_driver_that_has_said_nothing_is_not_described_by_the_old_ones_note(tmp_path):
    root = make_root(tmp_path / "runs", outcome="failed", error="old")
    lease = root / "lease.json"
    lease.write_text(lease.read_text().replace('"attempt": 2', '"attempt": 3'))
    status = look(root)
    assert (status.state, status.command) == ("running", None)


def test_the_last_steps_of_a_run_are_those_of_its_history(tmp_path):
    write_steps(tmp_path, [step(n) for n in range(1, 8)])
    write_steps(tmp_path, [step(n, attempt=2, loss=1.0) for n in range(5, 7)], attempt=2)
    assert last_steps(tmp_path, 100) == read_metrics(tmp_path)
    assert last_steps(tmp_path, 3) == read_metrics(tmp_path)[-3:]
    assert [one.attempt for one in last_steps(tmp_path, 3)] == [1, 2, 2]


def test_of_a_long_file_only_the_end_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cpt_ray.train.monitor.metrics._TAIL_BYTES", 1000)
    write_steps(tmp_path, [step(n) for n in range(1, 100)])
    found = last_steps(tmp_path, 60)
    assert 0 < len(found) < 10
    assert found == read_metrics(tmp_path)[-len(found) :]


def test_a_sparkline_goes_from_the_lowest_to_the_highest_and_is_as_wide_as_it_may_be():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([1.0, float("nan"), 8.0]) == "▁█"
    assert len(sparkline(list(range(1000)))) == 24


# The command line.


def test_a_folder_that_is_no_study_names_the_nearest_one(tmp_path, capsys, monkeypatch):
    make_root(tmp_path / "a" / "b" / "study")
    monkeypatch.chdir(tmp_path)
    assert main(["status", str(tmp_path / "a")]) == 2
    error = capsys.readouterr().err
    assert f"cpt-ray status: {tmp_path / 'a'} holds no study: there is no study.yaml in it" in error
    assert "fix: give the nearest study: a/b/study" in error
    assert main(["status", str(tmp_path / "a" / "b" / "study" / "train")]) == 2
    assert f"there is no file or folder {tmp_path}" in capsys.readouterr().err
    (tmp_path / "a" / "b" / "study" / "train").mkdir()
    assert main(["status", str(tmp_path / "a" / "b" / "study" / "train")]) == 2
    assert "fix: give the nearest study: a/b/study" in capsys.readouterr().err


def test_where_no_study_is_near_that_is_said(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["status", str(tmp_path / "empty")]) == 2
    assert "or its study file; there is none above or below this folder" in capsys.readouterr().err


@pytest.mark.parametrize(("argument", "said"), [("", "expected the path of a folder"), ("http://x/y", "artifacts are written")])
def test_what_can_be_no_root_is_refused(argument, said, capsys):
    assert main(["status", argument]) == 2
    assert said in capsys.readouterr().err


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


_DRIVER = """
import sys, time
from pathlib import Path
from cpt_ray.config.load import load_study
from cpt_ray.study.study import Study
from cpt_ray.cli.console import TerminalConsole
sys.argv = ["cpt-ray", "prepare", sys.argv[1]]
path = Path(sys.argv[2])
with Study(load_study(path), path, TerminalConsole()) as study:
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
