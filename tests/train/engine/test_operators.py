"""Locks that killed processes leave beside compiled operators."""

from __future__ import annotations

import os
import time

from cpt_ray.train.engine.operators import ABANDONED_AFTER_S, free_abandoned_locks


def make_lock(folder, name, age_s):
    (folder / name).mkdir(parents=True)
    lock = folder / name / "lock"
    lock.touch()
    os.utime(lock, (time.time() - age_s,) * 2)
    return lock


def test_an_old_lock_is_removed_and_said_and_one_in_use_stays(tmp_path, caplog):
    old, young = make_lock(tmp_path, "cpu_adam", ABANDONED_AFTER_S + 60), make_lock(tmp_path, "shm", 20)
    assert free_abandoned_locks(tmp_path) == [old]
    assert not old.exists()
    assert young.exists()
    assert str(old) in caplog.text
    assert free_abandoned_locks(tmp_path) == []


def test_the_folder_is_that_of_torch(tmp_path, monkeypatch):
    old = make_lock(tmp_path, "cpu_adam", ABANDONED_AFTER_S + 60)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert free_abandoned_locks() == [old]
    assert free_abandoned_locks(tmp_path / "none") == []
