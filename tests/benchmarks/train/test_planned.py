"""What is claimed of plans beside what their studies took."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.train import planned


def rows(train: float, evaluate: float, memory: float = 0.01) -> dict[str, dict[str, float]]:
    found = {"memory of a worker": (memory, 1e9), "time of train": (train, 100.0), "time of evaluate": (evaluate, 100.0)}
    return {what: {"planned": size * (1 + off), "measured": size, "off": off} for what, (off, size) in found.items()}


def test_errors_that_cancel_in_the_sum_do_not_cancel_in_the_worst_stage():
    memory, total, stage = planned.claims({"a": rows(-0.3, 0.31), "b": rows(0.1, 0.1, memory=-0.05)})
    assert (memory.id, memory.value) == ("plan.memory_error", 0.05)
    assert (total.id, total.value) == ("plan.time_error", pytest.approx(0.1))
    assert (stage.id, stage.value, stage.target) == ("plan.stage_time_error", 0.31, "<= 0.2")
    assert stage.claim.endswith("the worst of 4 stages of 2 studies, time of evaluate of a")


@pytest.fixture
def results(monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(planned, "RESULTS", tmp_path)
    monkeypatch.setattr(planned, "_KEPT", tmp_path / "plan.partial.json")
    monkeypatch.setattr(planned, "measure", lambda name: rows(0.1, 0.1))
    monkeypatch.setattr(planned, "write_results", lambda theme, claims: written.append((theme, len(claims))))
    return written


def call(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["planned", *arguments])
    planned.main()


def test_nothing_is_claimed_of_some_studies_unless_asked(results, monkeypatch, capsys, tmp_path):
    first, *others = planned.STUDIES
    call(monkeypatch, first)
    assert results == []
    assert f"not written yet: {', '.join(others)} of {len(planned.STUDIES)} studies" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "plan.partial.json").read_text())["raw"]) == [first]
    # A later call goes on from what was measured, and claims when all is there.
    call(monkeypatch, *others)
    assert results == [("plan", 3)]
    assert not (tmp_path / "plan.partial.json").exists()


def test_a_partial_set_is_claimed_if_it_is_asked_for(results, monkeypatch):
    call(monkeypatch, "small", "--partial")
    assert results == [("plan", 3)]
