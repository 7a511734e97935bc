"""A node keeps to its limit: what was used longest ago goes first, and what exists nowhere else stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.edges import store
from cpt_ray.edges.store import cache
from cpt_ray.errors import ArtifactError

pytestmark = pytest.mark.accept(cluster=5)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files of 1000 bytes at once, counted whenever one is added."""
    monkeypatch.setenv(cache.LIMIT, "3500")
    monkeypatch.setattr(cache, "_LOOK_BYTES", 1)
    monkeypatch.setattr(cache, "_added_since", {})


def sent(root: Path, name: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    store.push(path)
    return path


def used(path: Path, seconds_ago: float) -> None:
    then = time.time() - seconds_ago
    os.utime(path, (then, path.stat().st_mtime))


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_what_was_used_longest_ago_makes_room_and_is_fetched_again(root):
    for number, age in enumerate((300, 900, 600)):
        used(sent(root, f"shards/{number}.arrow"), age)
    new = sent(root, "shards/new.arrow")
    new.unlink()
    store.fetched(new)
    assert names(root) == ["0.arrow", "2.arrow", "new.arrow"]
    used(root / "shards/0.arrow", 400)
    assert store.fetched(root / "shards/1.arrow").stat().st_size == 1000
    assert names(root) == ["0.arrow", "1.arrow", "new.arrow"]


def test_what_is_used_now_or_not_sent_or_nothing_large_stays(root):
    for name in ("a.arrow", "b.parquet"):
        sent(root, name)
    unsent = root / "unsent.arrow"
    unsent.write_bytes(b"x" * 1000)
    used(unsent, 900)
    used(sent(root, "checkpoints/manifest.json"), 900)
    new = sent(root, "new.arrow")
    new.unlink()
    store.fetched(new)
    assert names(root) == ["a.arrow", "b.parquet", "manifest.json", "new.arrow", "unsent.arrow"]


def test_a_mapped_file_is_readable_after_it_made_room(root):
    first = sent(root, "a.arrow")
    mapped = np.memmap(first, mode="r")
    for name in ("a.arrow", "b.arrow", "c.arrow"):
        used(sent(root, name) if name != "a.arrow" else first, 900)
    used(first, 1000)
    new = sent(root, "d.arrow")
    new.unlink()
    store.fetched(new)
    assert not first.exists()
    assert bytes(mapped[:3]) == b"xxx"


def test_reading_a_file_counts_as_use(root):
    for number in range(3):
        used(sent(root, f"{number}.arrow"), 900 - number)
    store.fetched(root / "0.arrow")
    new = sent(root, "new.arrow")
    new.unlink()
    store.fetched(new)
    assert names(root) == ["0.arrow", "2.arrow", "new.arrow"]


def test_without_a_limit_a_share_of_the_disk_is_left_free(root, monkeypatch):
    monkeypatch.delenv(cache.LIMIT)
    old = sent(root, "old.arrow")
    used(old, 900)
    new = sent(root, "new.arrow")
    new.unlink()
    store.fetched(new)
    assert old.exists()  # there is room
    monkeypatch.setattr(cache, "_SPARE_SHARE", 1.0)
    new.unlink()
    store.fetched(new)
    assert not old.exists()


def test_a_bucket_of_another_study_that_refuses_keeps_its_files_and_stops_nothing(root, monkeypatch):
    for number, age in enumerate((900, 300, 600)):
        used(sent(root, f"shards/{number}.arrow"), age)
    ask = cache.ask

    def refuse(url, what, request):
        if url.endswith("0.arrow"):
            raise ArtifactError(f"{url}: {what}: access denied", fix="ask its owner")
        return ask(url, what, request)

    monkeypatch.setattr(cache, "ask", refuse)
    new = sent(root, "shards/new.arrow")
    new.unlink()
    assert store.fetched(new).stat().st_size == 1000
    assert names(root) == ["0.arrow", "1.arrow", "new.arrow"]


def test_checkpoints_and_weights_that_this_node_has_written_make_room_too(root):
    for number, name in enumerate(("step-1/engine.pt", "step-2/engine.pt", "model.safetensors")):
        used(sent(root, name), 900 - number)
    sent(root, "step-3/engine.pt")
    assert not (root / "step-1" / "engine.pt").exists()
    sent(root, "step-4/engine.pt")
    assert [path.parent.name for path in sorted(root.rglob("engine.pt"))] == ["step-3", "step-4"]
    assert store.fetched(root / "step-1" / "engine.pt").stat().st_size == 1000
    assert not (root / "model.safetensors").exists()


def test_what_a_process_uses_stays_until_it_is_done(root):
    old, older = sent(root, "base/model.safetensors"), sent(root, "step-1/engine.pt")
    used(old, 800)
    used(older, 900)
    with store.in_use(old.parent, None, root / "step-1"):
        for name in ("a.arrow", "b.arrow", "c.arrow"):
            sent(root, name)
        assert old.exists()
        assert older.exists()
    sent(root, "d.arrow")
    assert not old.exists()
    assert not older.exists()


USES = """
import sys, time
from cpt_ray.edges import store
with store.in_use(sys.argv[1]):
    print("using", flush=True)
    time.sleep(600)
"""


def test_what_another_process_uses_stays_until_it_is_killed(root):
    old = sent(root, "base/model.safetensors")
    used(old, 900)
    other = subprocess.Popen([sys.executable, "-c", USES, str(old.parent)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "using\n"
    for name in ("a.arrow", "b.arrow", "c.arrow"):
        sent(root, name)
    assert old.exists()
    other.kill()
    other.wait()
    sent(root, "d.arrow")
    assert not old.exists()


def test_on_a_disk_nothing_is_marked(tmp_path):
    with store.in_use(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_fetched_again_is_used(root):
    for number in range(3):
        used(sent(root, f"{number}/a.arrow"), 900 - number)
    store.fetched_folder(root / "0")
    sent(root, "new.arrow")
    assert (root / "0" / "a.arrow").exists()
    assert not (root / "1" / "a.arrow").exists()
