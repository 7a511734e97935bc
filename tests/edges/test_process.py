"""The environment before any import: the accelerator, and settings that glibc really applies."""

from __future__ import annotations

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
