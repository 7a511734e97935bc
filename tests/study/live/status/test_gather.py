"""What another shell learns of a study from its root: where it is, whether its driver lives, and what to type."""

from __future__ import annotations

import os
import time

import pytest

from cpt_ray.edges.lease import Lease
from cpt_ray.records import StudyStatus
from cpt_ray.study.live.status.gather import gather
from cpt_ray.study.live.status.place import Place
from cpt_ray.study.live.status.text import render_status
from cpt_ray.train.monitor.metrics import last_steps, read_metrics
from tests.study.live.status.made_up_root import (
    SMALL,
    TRUNK,
    files,
    make_all_done,
    make_done,
    make_root,
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
