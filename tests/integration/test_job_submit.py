"""A study submitted to the job server of a Ray head, from a checkout full of files that must not be uploaded."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cpt_ray.records import Comparison, EvalRecord, RunAttempt, RunRecord
from cpt_ray.train.checkpoint.committed import newest
from tests.integration.tiny_study import REPOSITORY, TinyStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MB = 1_000_000
MOST_UPLOADED = 10 * MB
LEFT_BEHIND = [
    ".git/objects/pack",
    ".venv/lib/model.bin",
    "runs/demo/checkpoint.bin",
    ".mypy_cache/cache.bin",
    ".ruff_cache/cache.bin",
    ".pytest_cache/cache.bin",
    ".hypothesis/cache.bin",
    "cpt_ray/__pycache__/cache.bin",
    "cpt_ray/data/__pycache__/cache.bin",
    "cpt_ray.egg-info/cache.bin",
    "build/lib.bin",
    "tests/data/corpus.bin",
    "docs/images/screenshot.bin",
    "benchmarks/results/raw.bin",
]


@dataclass
class Head:
    """A Ray head on this machine."""

    job_server: str
    temporary: Path
    environment: dict[str, str]

    def uploads(self) -> list[Path]:
        """Working directories uploaded by jobs, as unpacked by the head."""
        found = self.temporary.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*")
        return [path for path in found if path.is_dir()]


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


def descendants(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def of_this_head(temporary: Path) -> list[psutil.Process]:
    """Processes whose command line has the head's unique folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(str(temporary) in part for part in process.cmdline()):
                found.append(process)
    return found


def end(process: subprocess.Popen[bytes], temporary: Path) -> None:
    """Kill the head and everything it started, and nothing else."""
    started = descendants(psutil.Process(process.pid)) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    process.kill()
    process.wait(20)
    left = {*started, *of_this_head(temporary)}
    for item in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            item.kill()
    psutil.wait_procs(list(left), timeout=20)


def wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    limit = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:  # an answer: it may refuse requests without its token
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.2)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Short: the sockets below it must fit into the 107 bytes of a Unix address.
    temporary = Path(tempfile.mkdtemp(prefix="cr", dir="/tmp"))
    port, dashboard, agent, agent_grpc, metrics, client = free_ports(6)
    folder = str(Path(sys.executable).parent)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": folder + os.pathsep + os.environ["PATH"],
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PYTHONUNBUFFERED": "1",
    }
    ports = {
        "port": port,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": agent_grpc,
        "metrics-export-port": metrics,
        "ray-client-server-port": client,
    }
    command = [f"{folder}/ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
    command += [f"--{name}={value}" for name, value in ports.items()]
    command += ["--num-cpus=4", "--object-store-memory=100000000", f"--temp-dir={temporary}"]
    log = temporary / "start.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        server = f"http://127.0.0.1:{dashboard}"
        wait_until_it_answers(process, f"{server}/api/version", log)
        yield Head(server, temporary, environment)
    finally:
        end(process, temporary)
        assert of_this_head(temporary) == []
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the code with five megabytes in every location that an upload must exclude."""
    target = tmp_path_factory.mktemp("checkout") / "cpt-ray"
    skipped = shutil.ignore_patterns(
        ".git", ".venv", ".hypothesis", "*_cache", "__pycache__", "*.egg-info", "results", "images"
    )

    def ignore(folder: str, names: list[str]) -> set[str]:
        studies = {"runs"} if Path(folder) == REPOSITORY else set()  # cpt_ray/train/runs is code
        return skipped(folder, names) | studies

    shutil.copytree(REPOSITORY, target, ignore=ignore)
    for name in LEFT_BEHIND:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(secrets.token_bytes(5 * MB))
    return target


def submit(head: Head, checkout: Path, study: TinyStudy, *options: str) -> subprocess.CompletedProcess[str]:
    """Submit a tiny study of one arm and one budget from the checkout, and wait for it."""
    study.change(arms={"legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}}})
    command = [f"{Path(sys.executable).parent}/ray", "job", "submit", "--address", head.job_server, "--working-dir", "."]
    # The DeepSpeed JSON is part of the upload, so its path is relative.
    overrides = ["train.budgets=[2000]", "train.deepspeed=ds_configs/zero2_bf16.json", "runtime.kind=ray", "runtime.workers=2"]
    job = ["python", "jobs/study.py", str(study.config), *overrides, *options]
    return subprocess.run(
        [*command, "--", *job], cwd=checkout, env=head.environment, capture_output=True, text=True, timeout=900
    )


@pytest.fixture(scope="module")
def planned(head, checkout, prepared_study, tmp_path_factory) -> tuple[TinyStudy, subprocess.CompletedProcess[str]]:
    study = prepared_study.copy(tmp_path_factory.mktemp("planned") / "study")
    return study, submit(head, checkout, study, "--dry-run")


@pytest.fixture(scope="module")
def submitted(head, checkout, prepared_study, tmp_path_factory) -> tuple[TinyStudy, subprocess.CompletedProcess[str]]:
    study = prepared_study.copy(tmp_path_factory.mktemp("submitted") / "study")
    return study, submit(head, checkout, study)


def test_a_dry_run_goes_through_the_job_server_and_says_what_is_there_and_what_would_be_made(planned):
    study, done = planned
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout
    assert "tiny-legal-2000-seed0" in done.stdout
    assert not (study.root / "train").exists()


@pytest.mark.full
def test_the_job_succeeds_and_its_log_holds_the_summary_and_the_path_of_the_report(submitted):
    study, done = submitted
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout
    assert f"report:  {study.root / 'report.html'}" in done.stdout
    assert "tiny-legal-2000-seed0" in done.stdout


@pytest.mark.full
def test_report_and_comparison_lie_under_the_root_and_agree_with_the_log(submitted):
    study, done = submitted
    comparison = Comparison.load(study.root / "comparison.json")
    assert comparison.verdict in done.stdout
    assert comparison.tokens_seen >= 2000
    assert "<html" in (study.root / "report.html").read_text()[:200].lower()
    records = [EvalRecord.load(path) for path in study.root.glob("evaluate/*/evaluation.json")]
    assert {record.run for record in records} == {"tiny-base", "tiny-legal-2000-seed0"}


@pytest.mark.full
def test_the_work_was_done_by_the_cluster_in_two_processes(submitted):
    study, _ = submitted
    record = RunRecord.load(next(study.root.glob("train/tiny-legal-2000-*/run.json")))
    assert record.training.world_sizes == (2,)
    assert len(set(record.training.worker_pids)) == 2


STOPPED = "tiny-legal-400000-seed0"


@pytest.mark.full
@pytest.mark.accept(cluster=4)
def test_a_job_that_is_stopped_saves_and_the_same_job_goes_on(head, prepared_study, tmp_path, record_property):
    """As docs/operations.md says it, from a fresh shell; the wait is asked for with the job, the head knows nothing of it."""
    study = prepared_study.copy(tmp_path / "study")
    study.change(arms={"legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}, "max_epochs": 99}})
    assert "RAY_JOB_STOP_WAIT_TIME_S" not in head.environment
    job = f"cpt-ray train {study.config} 'train.budgets=[400k]' train.checkpoint_every=200k runtime.workers=2"
    wait = '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300"}}'
    submit = f"ray job submit --no-wait --submission-id first --runtime-env-json '{wait}' -- {job}"

    in_shell(head, tmp_path, submit)
    in_shell(head, tmp_path, "ray job logs --follow first > first.log 2>&1 &")
    wait_for_steps(study, 20, tmp_path / "first.log")
    started = time.monotonic()
    in_shell(head, tmp_path, "ray job stop first")
    seconds = time.monotonic() - started
    log = in_shell(head, tmp_path, "ray job logs first")
    (run,) = study.root.glob(f"train/{STOPPED}-*")
    saved = newest(run)[1].progress
    assert f"{STOPPED}: stopped at step {saved.step}, {saved.tokens_seen} tokens, saved" in log
    assert "Job 'first' was stopped" in in_shell(head, tmp_path, "ray job status first")
    assert "stopped at step" in (tmp_path / "first.log").read_text()  # the output was kept as it came
    assert saved.step >= 20

    in_shell(head, tmp_path, submit.replace("first", "second"))
    wait_for_steps(study, 1, tmp_path / "first.log", attempt=2)
    in_shell(head, tmp_path, "ray job stop second")
    second = RunAttempt.load(run / "attempts" / "attempt-0002.json")
    assert (second.resumed, second.first_step) == (True, saved.step)
    record_property("ray job stop", f"saved at step {saved.step} and stopped within {seconds:.0f} s; the next job began there")


def in_shell(head: Head, folder: Path, command: str) -> str:
    """Run a command in a fresh shell of a user who has the token, and return its output."""
    kept = ("PATH", "HOME", "PYTHONPATH", "TORCH_EXTENSIONS_DIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    environment = {name: head.environment[name] for name in kept if name in head.environment}
    environment["RAY_API_SERVER_ADDRESS"] = head.job_server
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=not command.endswith("&"), text=True, timeout=400
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return (done.stdout or "") + (done.stderr or "")


def wait_for_steps(study: TinyStudy, steps: int, log: Path, *, attempt: int = 1) -> None:
    """Until an attempt of the run that will be stopped has done some steps."""
    end = time.monotonic() + 400
    while True:
        found = list(study.root.glob(f"train/{STOPPED}-*/metrics/attempt-{attempt:04d}.jsonl"))
        if found and found[0].read_bytes().count(b"\n") >= steps:
            return
        assert time.monotonic() < end, log.read_text() if log.exists() else "no output"
        time.sleep(0.05)


def test_a_request_without_the_token_is_turned_away(head):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{head.job_server}/api/jobs/", timeout=30)
    assert error.value.code in (401, 403)


def test_the_upload_is_small_and_leaves_environments_caches_and_runs_behind(planned, head, checkout):
    (upload,) = head.uploads()
    files = {str(path.relative_to(upload)): path.stat().st_size for path in upload.rglob("*") if path.is_file()}
    assert sum(files.values()) < MOST_UPLOADED
    assert sum((checkout / name).stat().st_size for name in LEFT_BEHIND) > 5 * MOST_UPLOADED  # a leak would exceed the limit
    assert {name for name in LEFT_BEHIND if name in files} == set()
    assert {"cpt_ray/cli/main.py", "jobs/study.py", "ds_configs/zero2_bf16.json", "configs/demo.yaml"} <= set(files)
