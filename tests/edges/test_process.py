"""The environment before any import: the accelerator, and settings that glibc really applies."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys

import pytest

from cpt_ray.edges import process


@pytest.fixture
def environment(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def gpu(monkeypatch, there):
    monkeypatch.setattr(process.Path, "exists", lambda path: there and str(path) == "/dev/nvidia0")


@pytest.mark.parametrize(("there", "expected"), [(False, "cpu"), (True, None)])
def test_deepspeed_is_told_to_use_the_cpu_where_there_is_no_gpu(environment, there, expected):
    gpu(environment, there)
    process.choose_accelerator()
    assert os.environ.get("DS_ACCELERATOR") == expected
    environment.delenv("DS_ACCELERATOR", raising=False)


def test_what_the_user_has_said_stays(environment):
    gpu(environment, False)
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
