"""The environment before any import: the accelerator, and settings that glibc really applies."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
import time

import psutil
import pytest

from cpt_ray.edges import process


@pytest.fixture
def environment(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("devices", "expected"),
    [((), "cpu"), (("nvidiactl", "null"), "cpu"), (("nvidia0",), None), (("nvidia3",), None), (("kfd",), None)],
)
def test_deepspeed_is_told_to_use_the_cpu_where_there_is_no_gpu(environment, tmp_path, devices, expected):
    environment.setattr(process, "DEVICES", tmp_path)
    for name in devices:
        (tmp_path / name).touch()
    process.choose_accelerator()
    assert os.environ.get("DS_ACCELERATOR") == expected
    environment.delenv("DS_ACCELERATOR", raising=False)


def test_what_the_user_has_said_stays(environment, tmp_path):
    environment.setattr(process, "DEVICES", tmp_path)
    environment.setenv("DS_ACCELERATOR", "cuda")
    process.choose_accelerator()
    assert os.environ["DS_ACCELERATOR"] == "cuda"
    environment.delenv("DS_ACCELERATOR")
    environment.setenv("CUDA_VISIBLE_DEVICES", "0")
    process.choose_accelerator()
    assert "DS_ACCELERATOR" not in os.environ


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_process_with_these_settings_keeps_its_memory_and_faults_it_in_once():
    code = (
        "import resource\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    bytearray(64 << 20)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults()\n"
        "print(faults())\n"
    )

    def run(settings):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    recycled = run({process.ALLOCATOR: process.RECYCLE_MEMORY})
    assert recycled < 100
    assert run({process.ALLOCATOR: ""}) > 10 * (recycled + 1)


def test_imports_run_without_collections_and_what_they_made_is_exempt():
    gc.unfreeze()
    with process.quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_a_process_that_collects_nothing_goes_on_collecting_nothing():
    gc.disable()
    try:
        with process.quick_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_module_is_absent_for_as_long_as_is_asked_and_no_longer(tmp_path, monkeypatch):
    (tmp_path / "made_up_module.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with process.pretend_absent("made_up_module"), pytest.raises(ImportError):
        importlib.import_module("made_up_module")
    imported = importlib.import_module("made_up_module")
    with process.pretend_absent("made_up_module"):
        assert importlib.import_module("made_up_module") is imported
    del sys.modules["made_up_module"]


def test_a_worker_starts_without_the_trackers_library():
    code = "import sys, cpt_ray.train.worker; sys.exit('mlflow' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "DS_ACCELERATOR": "cpu"}, check=False).returncode == 0
    )


def wait_in_pool() -> None:
    time.sleep(60)


def test_a_pools_processes_are_others_and_end_with_it():
    with process.process_pool(1) as pool:
        worker = pool.submit(os.getpid).result()
        assert worker != os.getpid()
    assert not alive(worker)


def test_processes_at_work_are_not_waited_for_when_the_block_ends_with_an_error():
    with pytest.raises(KeyboardInterrupt), process.process_pool(1) as pool:
        worker = pool.submit(os.getpid).result()
        pool.submit(wait_in_pool)
        raise KeyboardInterrupt
    assert not alive(worker)


def test_a_pools_processes_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import os, sys, time\n"
        "from cpt_ray.edges.process import process_pool\n"
        "if __name__ == '__main__':\n"
        "    with process_pool(1) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 60)\n"
        "        time.sleep(60)\n"
    )
    (tmp_path / "parent.py").write_text(code)
    with subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


def alive(pid: int) -> bool:
    """Whether a process is running; one that only waits to be collected is not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
