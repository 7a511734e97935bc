"""Versions, compiler, operators and device are judged by what is really installed, or by a planted fault."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.study.preflight.doctor import software
from cpt_ray.study.preflight.doctor.software import (
    check_compiler,
    check_device,
    check_operators,
    check_packages,
    check_python,
    check_software,
    find_compiler,
    operator_folder,
)


def test_this_environment_is_within_its_bounds():
    found = list(check_software())
    assert [one for one in found if one.level == "fail"] == []
    assert {one.what for one in found} == {"Python", "packages", "C++ compiler", "DeepSpeed operators", "device"}


def test_an_old_python_fails(monkeypatch):
    assert check_python().found == platform.python_version()
    monkeypatch.setattr(software.platform, "python_version", lambda: "3.9.18")
    assert (check_python().level, check_python().found) == ("fail", "3.9.18")


def test_a_wrong_version_and_a_missing_package_are_named_with_what_to_install(tmp_path, monkeypatch):
    planted = tmp_path / "pyyaml-5.0.dist-info"
    planted.mkdir()
    (planted / "METADATA").write_text("Metadata-Version: 2.1\nName: pyyaml\nVersion: 5.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    lines = [
        "pyyaml>=6", "numpy>=2", "no-such-package>=1", 'no-such-option>=1; extra == "gpu"', 'pytest>=999; extra == "dev"',
        'cpt-ray[gpu]; extra == "all"',
    ]  # fmt: skip
    found = list(check_packages(lines))
    assert [(one.found, one.level, one.fix) for one in found] == [
        ("pyyaml 5.0, needs pyyaml>=6", "fail", "pip install 'pyyaml>=6'"),
        ("no-such-package is missing", "fail", "pip install 'no-such-package>=1'"),
        ("1 within their bounds; not installed, and needed by some settings only: no-such-option", "ok", ""),
    ]


def test_a_checkout_that_is_not_installed_is_a_warning():
    (found,) = check_packages(None)
    assert (found.level, found.fix) == ("warn", "pip install -e '.[all]'")


def test_a_path_without_a_compiler_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    found = check_compiler(find_compiler())
    assert (found.level, found.found) == ("warn", "c++ is not on PATH")
    compiler = tmp_path / "my-c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", "my-c++")
    assert find_compiler() == str(compiler)
    assert check_compiler(find_compiler()).level == "ok"


@pytest.mark.parametrize(
    ("can_build", "level", "said"), [(True, "ok", "builds it"), (False, "warn", "cannot be: no optimizer")]
)
def test_an_operator_that_is_not_built_is_built_when_it_is_needed_and_a_warning_without_a_compiler(
    tmp_path, can_build, level, said
):
    found = check_operators(tmp_path, can_build=can_build)
    assert found.level == level
    assert said in found.found
    (tmp_path / "py311_cpu" / "cpu_adam").mkdir(parents=True)
    (tmp_path / "py311_cpu" / "cpu_adam" / "cpu_adam.so").touch()
    built = check_operators(tmp_path, can_build=can_build)
    assert (built.level, built.found) == ("ok", f"CPUAdam in {tmp_path}")


def test_operators_are_looked_for_where_training_builds_them(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert operator_folder() == tmp_path
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setattr(software, "operator_environment", dict)
    assert operator_folder() == Path.home() / ".cache" / "torch_extensions"


def test_a_gpu_that_is_asked_for_and_missing_fails_with_the_key(monkeypatch):
    from cpt_ray.records import DeviceFacts

    facts = DeviceFacts(torch="2.13.0+cpu")
    monkeypatch.setattr(software, "read_device", lambda *, ask_torch: facts)
    assert check_device().found == "torch 2.13.0+cpu (a CPU build); no GPU"
    found = check_device(RuntimeConfig(kind="local", device="gpu"))
    assert found.level == "fail"
    assert "runtime.device is gpu, but this machine has no GPU" in found.found
    card = facts.model_copy(update={"card": "H100", "driver": "550.1", "memory_bytes": 80 << 30, "cuda": "12.8"})
    monkeypatch.setattr(software, "read_device", lambda *, ask_torch: card)
    assert check_device().found == "torch 2.13.0+cpu (CUDA 12.8); H100, driver 550.1, 80.0 GiB"
    old = card.model_copy(update={"driver": "450.1"})
    monkeypatch.setattr(software, "read_device", lambda *, ask_torch: old)
    assert "too old" in check_device().found
    monkeypatch.setattr(software, "read_device", lambda *, ask_torch: DeviceFacts(torch=""))
    assert check_device().found == "torch is not installed"
