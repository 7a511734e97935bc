"""Growing files: sent in segments, joined on another node, complete at a checkpoint, and never longer than what was sent."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cpt_ray.edges import store
from cpt_ray.edges.store import lines
from cpt_ray.errors import ArtifactError
from tests.object_store import node


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread sends: each test says when."""
    monkeypatch.setattr(lines, "_sender", lambda: None)
    monkeypatch.setattr(lines, "_growing", {})


def append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(text)


def joined(path: Path, cache: Path) -> str:
    """What another node reads of a file."""
    with node(cache):
        folder = store.here(path.parent)
        lines.join_segments(folder, store.listing(folder))
        there = folder / path.name
        return there.read_text() if there.exists() else ""


def test_another_node_reads_what_was_sent_and_goes_on_where_it_was(root, tmp_path):
    path = root / "metrics" / "attempt-0001.jsonl"
    lines.publish(path)
    append(path, "one\ntwo\n")
    assert joined(path, tmp_path / "other") == ""
    lines.flush()
    assert joined(path, tmp_path / "other") == "one\ntwo\n"
    append(path, "three\n")
    lines.flush()
    assert joined(path, tmp_path / "other") == "one\ntwo\nthree\n"
    assert joined(path, tmp_path / "third") == "one\ntwo\nthree\n"


def test_segments_grow_to_a_size_and_then_there_is_another(root, tmp_path, monkeypatch, bucket):
    monkeypatch.setattr(lines, "_SEGMENT_BYTES", 20)
    path, whole = root / "metrics" / "a.jsonl", ""
    lines.publish(path)
    for number in range(30):
        append(path, f"line {number}\n")
        whole += f"line {number}\n"
        lines.flush()
        assert joined(path, tmp_path / "other") == whole
    segments = [name for name in store.sizes(path.parent) if lines.is_segment(name)]
    assert len(segments) == len(whole) // 24 + 1 < 30
    assert joined(path, tmp_path / "late") == whole


def test_a_process_on_another_node_goes_on_after_what_was_sent(root, tmp_path):
    path = root / "logs" / "rank-00000.log"
    lines.publish(path)
    append(path, "first start\n")
    lines.flush()
    lines._growing.clear()
    with node(tmp_path / "other"):
        there = store.here(path)
        lines.publish(there)
        append(there, "second start\n")
        lines.finish(there)
    assert joined(path, tmp_path / "third") == "first start\nsecond start\n"


def test_what_a_killed_process_did_not_send_is_dropped_before_the_next_start(root):
    path, driver = root / "metrics" / "attempt-0001.jsonl", root / "events" / "driver.jsonl"
    lines.publish(path)
    append(path, "sent\n")
    lines.flush()
    append(path, "never sent\n")
    append(driver, "the driver lives\n")
    lines.cut_to_sent(root, store.listing(root), but="events/driver.jsonl")
    assert path.read_text() == "sent\n"
    assert driver.read_text() == "the driver lives\n"


def test_lines_wait_for_a_bucket_that_fails_and_a_flush_says_that_it_does(root, bucket, tmp_path):
    path = root / "metrics" / "attempt-0001.jsonl"
    lines.publish(path)
    append(path, "one\n")
    bucket.fail("denied", method="PUT")
    with pytest.raises(ArtifactError, match="cannot be written"):
        lines.flush()
    append(path, "two\n")
    bucket.recover()
    lines.flush()
    assert joined(path, tmp_path / "other") == "one\ntwo\n"


def test_a_file_that_another_process_of_the_node_writes_is_not_joined_twice(root):
    path = root / "metrics" / "attempt-0001.jsonl"
    lines.publish(path)
    append(path, "one\n")
    lines.flush()
    append(path, "two\n")  # not sent yet
    lines.join_segments(path.parent, store.listing(path.parent))
    assert path.read_text() == "one\ntwo\n"


def test_a_local_file_is_not_published(tmp_path):
    lines.publish(tmp_path / "a.jsonl")
    assert not lines._growing


def test_several_processes_of_a_node_join_a_file_once(root, tmp_path, monkeypatch):
    path = root / "metrics" / "attempt-0001.jsonl"
    lines.publish(path)
    append(path, "".join(f"line {number}\n" for number in range(50)))
    lines.flush()
    ask, at_once = lines.ask, threading.Barrier(4)

    def all_have_read(*arguments):
        found = ask(*arguments)
        at_once.wait(timeout=30)
        return found

    with node(tmp_path / "other"):
        folder = store.here(path.parent)
        found = store.listing(folder)
        monkeypatch.setattr(lines, "ask", all_have_read)
        joiners = [threading.Thread(target=lines.join_segments, args=(folder, found)) for _ in range(4)]
        for one in joiners:
            one.start()
        for one in joiners:
            one.join()
        assert (folder / path.name).read_text() == path.read_text()


def test_what_a_killed_process_did_not_send_of_its_log_is_sent_by_the_next(root, tmp_path):
    path = root / "logs" / "rank-00000.log"
    lines.publish(path)
    append(path, "sent\n")
    lines.flush()
    append(path, "last words\n")
    lines._growing.clear()  # killed
    lines.publish(path)
    append(path, "second start\n")
    lines.flush()
    assert joined(path, tmp_path / "other") == "sent\nlast words\nsecond start\n"
