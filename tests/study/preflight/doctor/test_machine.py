"""Each check of a machine finds its fault, planted for real where a test can, and is content without it."""

from __future__ import annotations

import os
import resource
import socket

import pytest

from cpt_ray.study.preflight.doctor import machine
from cpt_ray.study.preflight.doctor.machine import (
    check_clock,
    check_folder,
    check_machine,
    check_memory,
    check_open_files,
    check_ports,
    check_shared_memory,
)


def test_a_machine_that_can_train_passes(tmp_path):
    found = {one.what: one for one in check_machine(tmp_path)}
    assert list(found) == ["memory", "runtime.scratch", "shared memory", "open files", "ports", "clock"]
    assert {one.level for name, one in found.items() if name in ("memory", "runtime.scratch", "ports")} <= {"ok", "warn"}
    assert found["ports"].level == "ok"


def test_little_memory_is_a_warning():
    assert check_memory(8 << 30).level == "ok"
    found = check_memory(1 << 30)
    assert (found.level, found.found.split(",")[0]) == ("warn", "1.0 GiB available")


def test_a_folder_that_does_not_exist_yet_is_judged_by_the_nearest_one(tmp_path):
    found = check_folder("study.root", tmp_path / "a" / "b", least=0)
    assert found.level == "ok"
    assert found.found.startswith(f"{tmp_path}: writable, ")
    assert list(tmp_path.iterdir()) == []


def test_a_small_disk_is_a_warning_with_the_key_to_change(tmp_path):
    found = check_folder("runtime.scratch", tmp_path, least=1 << 60)
    assert found.level == "warn"
    assert "or set runtime.scratch to a larger disk" in found.fix


def test_a_folder_that_cannot_be_written_fails():
    # /proc refuses new files to everyone, and so does a read-only folder to all but root.
    found = check_folder("study.root", machine.Path("/proc/cpt-ray"))
    assert found.level == "fail"
    assert found.found.startswith("/proc: cannot be written: ")
    assert found.fix == "set study.root to a folder that you can write to"
    assert check_folder("temporary folder", machine.Path("/proc")).fix.startswith("set TMPDIR to ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_fails(tmp_path):
    tmp_path.chmod(0o500)
    assert check_folder("study.root", tmp_path).level == "fail"


def test_shared_memory_of_a_container_that_was_told_nothing_is_a_warning(tmp_path):
    assert check_shared_memory(tmp_path, least=0).level == "ok"
    found = check_shared_memory(tmp_path, least=1 << 50)
    assert found.level == "warn"
    assert "docker run --shm-size=" in found.fix
    assert "there is no" in check_shared_memory(tmp_path / "none").found


def test_few_open_files_are_a_warning_that_raises_the_limit_to_what_is_allowed():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        found = check_open_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (found.found, found.level) == ("at most 512", "warn")
    assert found.fix == f"ulimit -n {min(hard, 65536)}  (before the command)"
    assert check_open_files(least=1).level == "ok"


def test_a_host_name_without_an_address_fails_with_the_line_to_add(monkeypatch):
    assert check_ports().level == "ok"
    monkeypatch.setattr(machine.socket, "gethostname", lambda: "no-such-host.invalid")
    found = check_ports()
    assert found.level == "fail"
    assert found.found.startswith("the host name no-such-host.invalid has no address")
    assert found.fix == "echo '127.0.1.1 no-such-host.invalid' | sudo tee -a /etc/hosts"


def test_a_loopback_that_refuses_fails(monkeypatch):
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError("not permitted")

    monkeypatch.setattr(machine.socket, "create_server", refuse)
    assert check_ports().found == "no connection to 127.0.0.1: not permitted"


def test_a_clock_in_the_past_fails_and_an_undisciplined_one_warns(monkeypatch):
    assert check_clock(now=1e9).level == "fail"
    assert "before cpt-ray was installed" in check_clock(now=1e9).found
    for unsynchronized, level in ((True, "warn"), (False, "ok")):
        monkeypatch.setattr(machine, "_is_unsynchronized", lambda answer=unsynchronized: answer)
        assert check_clock().level == level


def test_the_kernel_says_whether_the_clock_is_disciplined():
    assert machine._is_unsynchronized() in (True, False)
