"""Runs of Weights & Biases hold each row once; without its key they are written to files. Skipped where it is not installed."""

from __future__ import annotations

import struct

import pytest

from cpt_ray.edges.packages import is_installed
from cpt_ray.edges.tracking.curves import CurvePoint
from cpt_ray.edges.tracking.wandb_runs import FOLDER, SentRows, WandbRuns

# Not at import: a module that is left out then would count as skipped in every selection of tests.
pytestmark = pytest.mark.skipif(not is_installed("wandb"), reason="wandb is not installed")


def points(*losses: float) -> list[CurvePoint]:
    return [
        point
        for number, loss in enumerate(losses, start=1)
        for point in (CurvePoint("train/loss", 100 * number, loss, 0.0), CurvePoint("train/mfu", 100 * number, 0.5, 0.0))
    ]


def histories(root) -> dict[str, list[tuple[int, dict[str, str]]]]:
    """Run id to the rows that its files hold, in order; a file is in LevelDB's log format, with seven bytes before it."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for path in sorted((root / FOLDER).glob("offline-run-*/*.wandb")):
        data, place, part = path.read_bytes(), 7, b""
        while place + 7 <= len(data):
            if 32768 - place % 32768 < 7:
                place += 32768 - place % 32768
                continue
            _, length, kind = struct.unpack_from("<IHB", data, place)
            part += data[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or the last part
                record, part = Record.FromString(part), b""
                if record.HasField("history"):
                    items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                    found.setdefault(path.stem, []).append((record.history.step.num, items))
    return found


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    return lambda: WandbRuns(tmp_path, "project", "study")


def test_rows_are_written_to_files_once_whatever_was_started_again(runs, tmp_path):
    first = runs()
    assert first.offline
    first.write("a", "key", points(3.0, 2.0))
    first.write("b", "other", points(9.0))  # side by side
    first.write("a", "key", points(3.0, 2.0))
    first.close(failed=True)
    again = runs()
    again.write("a", "key", points(3.0, 2.0, 1.0))
    again.close(failed=False)
    again.close(failed=False)
    sent = SentRows.load(tmp_path / FOLDER / "sent" / "a.json")
    assert sent.rows == 3
    rows = histories(tmp_path)[f"run-{sent.id}"]
    assert [(step, items["train/loss"]) for step, items in rows] == [(100, "3"), (200, "2"), (300, "1")]


def test_rows_that_contradict_what_was_sent_are_another_run(runs, tmp_path):
    places = runs()
    places.write("a", "key", points(3.0, 2.0))
    before = SentRows.load(tmp_path / FOLDER / "sent" / "a.json")
    places.write("a", "key", points(3.0, 5.0))
    after = SentRows.load(tmp_path / FOLDER / "sent" / "a.json")
    places.close(failed=False)
    assert before.id != after.id
    assert len(histories(tmp_path)) == 2


def test_a_key_of_the_service_or_the_users_word_decides_where_runs_go(runs, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert not runs().offline
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert runs().offline
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "nobody").mkdir()
    (tmp_path / "nobody" / ".netrc").write_text("machine api.wandb.ai login user password y")
    assert not runs().offline
