"""What a command notes of itself in the root, and that nothing of it stops the command."""

from __future__ import annotations

import json

import pytest

from cpt_ray.edges.lease import hold_lease
from cpt_ray.errors import DataError, TrainingStopped
from cpt_ray.records import CommandRecord, PlannedStudy
from cpt_ray.study.grid import Grid
from cpt_ray.study.live import command
from cpt_ray.study.live.command import CommandNote, planned_study
from tests.study.planned import Lines, graph_of

PLAN = PlannedStudy(study="s", artifacts=())


@pytest.fixture
def note(tmp_path, monkeypatch):
    monkeypatch.setattr(command.sys, "argv", ["/bin/cpt-ray", "run", "a b.yaml", "tracking.uri=http://me:pw@host/x"])
    with hold_lease(tmp_path) as lease:
        note = CommandNote(tmp_path, Lines())
        note.begin(lease.attempt, PLAN)
        yield note


def noted(folder) -> CommandRecord:
    return CommandRecord.of(folder)


def test_a_command_is_noted_as_typed_without_its_secrets(note, tmp_path):
    assert noted(tmp_path).command == "cpt-ray run 'a b.yaml' tracking.uri=http://***@host/x"
    assert noted(tmp_path).outcome == "running"
    assert PlannedStudy.of(tmp_path) == PLAN


def test_progress_is_noted_at_most_every_five_seconds_and_shown_always(note, tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(command.time, "monotonic", lambda: clock[0])
    note.reach("train")
    note.progress("  step 1")
    assert (noted(tmp_path).verb, noted(tmp_path).doing) == ("train", "")
    clock[0] += 5
    note.progress("  step 2")
    assert noted(tmp_path).doing == "step 2"
    note.step("made x")
    assert note._console.said == ["made x"]


@pytest.mark.parametrize(
    ("error", "outcome", "said", "fix"),
    [
        (None, "done", "", ""),
        (DataError("bad line", fix="remove it"), "failed", "bad line", "remove it"),
        (RuntimeError("odd"), "failed", "RuntimeError: odd", ""),
        (KeyboardInterrupt(), "interrupted", "", ""),
        (TrainingStopped("asked", fix="again"), "interrupted", "", "again"),
    ],
)
def test_the_end_is_noted_with_its_error_and_fix(note, tmp_path, error, outcome, said, fix):
    note.end(error)
    found = noted(tmp_path)
    assert (found.outcome, found.error, found.fix) == (outcome, said, fix)
    assert found.ended is not None


def test_a_driver_that_was_taken_for_dead_says_nothing_for_its_successor(note, tmp_path):
    lease = json.loads((tmp_path / "lease.json").read_text())
    (tmp_path / "lease.json").write_text(json.dumps({**lease, "attempt": 9}))
    note.end(DataError("lost", fix="none"))
    assert noted(tmp_path).outcome == "running"


def test_a_note_that_cannot_be_written_stops_nothing(note, tmp_path):
    (tmp_path / "command.json").unlink()
    (tmp_path / "command.json").mkdir()
    (tmp_path / "command.json" / "x").touch()
    note.end(None)


def test_a_verb_that_only_reads_notes_nothing(tmp_path):
    note = CommandNote(tmp_path, Lines())
    note.progress("x")
    note.end(None)
    assert list(tmp_path.iterdir()) == []


def test_the_plan_names_runs_as_the_study_does_with_their_tokens(tiny):
    graph = graph_of(tiny, "axes={rate: {key: train.learning_rate, values: {slow: 1e-4, fast: 1e-3}}}")
    planned = planned_study(graph, Grid(graph))
    runs = {one.name: (one.start_tokens, one.stop_tokens) for one in planned.artifacts if one.stage == "train"}
    assert len(runs) == 8
    assert runs["tiny-legal-4000-seed0@rate-slow"][1] == 4000
    assert {one.verb for one in planned.artifacts} == {"prepare", "train", "evaluate"}
    assert len({one.folder for one in planned.artifacts}) == len(planned.artifacts)
