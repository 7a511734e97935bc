"""The verb `logs`: in order, errors first on request, followed, and of one worker."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys

import pytest

from cpt_ray.cli.main import main
from tests.study.live.status.made_up_root import FAILED, TRUNK, make_logged_root, make_root


@pytest.fixture
def root(tmp_path):
    return make_logged_root(tmp_path / "runs")


def test_entries_of_all_files_are_in_the_order_of_their_times_and_tracebacks_stay_whole(root, capsys):
    assert main(["logs", str(root)]) == 0
    said = capsys.readouterr().out
    heads = [line for line in said.splitlines() if line.startswith("[")]
    assert [line.split("] ")[0] for line in heads] == [
        "[driver", f"[{TRUNK} rank 0", f"[{TRUNK} rank 1", "[driver", f"[{TRUNK} rank 1", "[driver",
    ]  # fmt: skip
    assert FAILED in said


def test_one_worker_and_one_run_are_shown_alone_and_a_missing_one_is_named(root, capsys):
    assert main(["logs", str(root), "--worker", "0", "--run", TRUNK[:8]]) == 0
    assert capsys.readouterr().out == f"[{TRUNK} rank 0] 2026-01-01 10:00:01,000 INFO x: run on rank 0 of 2\n"
    assert main(["logs", str(root), "--worker", "7"]) == 2
    error = capsys.readouterr().err
    assert f"{root} has no log of rank 7" in error
    assert f"fix: there are those of driver, {TRUNK} rank 0, {TRUNK} rank 1" in error


def test_a_study_without_logs_and_a_senseless_number_are_refused(tmp_path, capsys):
    root = make_root(tmp_path / "runs")
    assert main(["logs", str(root)]) == 2
    assert "has no log files yet" in capsys.readouterr().err
    assert main(["logs", str(root), "--lines", "0"]) == 2
    assert "--lines is 0" in capsys.readouterr().err


def test_following_prints_what_is_logged_and_ends_with_ctrl_c(root):
    command = [sys.executable, "-m", "cpt_ray.cli.main", "logs", str(root), "--follow", "--lines", "1"]
    # A shell that runs the tests in the background has its children ignore Ctrl-C.
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeds) as follower:
        assert "made train" in follower.stdout.readline()
        with (root / "logs" / "driver.log").open("a") as stream:
            stream.write("2026-01-01 10:00:10,000 INFO x: later\n")
        assert follower.stdout.readline() == "[driver] 2026-01-01 10:00:10,000 INFO x: later\n"
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=30)
        assert follower.returncode == 130


def test_logs_in_a_bucket_are_joined_from_their_segments(root, bucket, capsys):
    for path in sorted(root.rglob("*")):
        if path.is_file():
            name = path.relative_to(root).as_posix()
            bucket.put(f"logged/{name}@{0:012d}" if "rank-" in name else f"logged/{name}", path.read_bytes())
    assert main(["logs", str(root)]) == 0
    here = capsys.readouterr().out
    assert main(["logs", "s3://studies/logged"]) == 0
    assert capsys.readouterr().out == here
