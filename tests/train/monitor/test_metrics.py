"""Metrics of restarted runs are read as one history."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_ray.records import StepMetrics
from cpt_ray.train.monitor.metrics import METRICS, LineWriter, RunSteps, StepReader, read_metrics, sum_steps
from tests.run_records import run_steps


def metrics(attempt: int, step: int, loss: float = 1.0) -> StepMetrics:
    return StepMetrics(
        attempt=attempt, step=step, tokens_seen=10 * step, loss=loss, learning_rate=0.1, gradient_norm=1.0,
        tokens_per_s=1.0, step_s=1.0, data_wait_s=0.0, mfu=None,
    )  # fmt: skip


def test_a_resumed_attempt_replaces_the_steps_it_does_again(tmp_path: Path):
    first, second = LineWriter(tmp_path, METRICS, 1), LineWriter(tmp_path, METRICS, 2)
    for step in (1, 2, 3, 4):
        first.write(metrics(1, step))
    for step in (3, 4, 5):
        second.write(metrics(2, step, loss=2.0))
    assert [(m.step, m.attempt) for m in read_metrics(tmp_path)] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


def test_steps_beyond_the_resume_point_of_a_lost_attempt_do_not_survive(tmp_path: Path):
    first, second = LineWriter(tmp_path, METRICS, 1), LineWriter(tmp_path, METRICS, 2)
    for step in (1, 2, 3, 4):
        first.write(metrics(1, step))
    second.write(metrics(2, 2))
    assert [m.step for m in read_metrics(tmp_path)] == [1, 2]


def test_a_line_cut_by_a_kill_is_skipped(tmp_path: Path):
    writer = LineWriter(tmp_path, METRICS, 1)
    writer.write(metrics(1, 1))
    writer.close()
    path = next((tmp_path / "metrics").iterdir())
    path.write_text(path.read_text() + '{"attempt": 1, "st')
    assert [m.step for m in read_metrics(tmp_path)] == [1]


def test_a_run_without_metrics_has_none(tmp_path: Path):
    assert read_metrics(tmp_path) == ()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The lines that are parsed from now on."""
    lines: list[bytes] = []
    parse = StepMetrics.from_json
    monkeypatch.setattr(StepMetrics, "from_json", lambda line: lines.append(line) or parse(line))
    return lines


def summed(folder: Path) -> RunSteps:
    """What a reader should say, from all steps at once."""
    return run_steps(*read_metrics(folder, rows=False))


def test_sums_are_those_of_all_steps_and_only_the_last_ones_are_kept(tmp_path: Path):
    writer = LineWriter(tmp_path, METRICS, 1)
    for step in range(1, 26):
        changes = {"skipped": step == 3, "spike": step in (5, 6), "step_s": 9.0 if step == 2 else 1.0, "flops": 7.0}
        writer.write(metrics(1, step).model_copy(update={**changes, "sample_ids": ("law:3",)}))
    found = StepReader(tmp_path).read()
    assert (found.steps, found.skipped, found.spikes, found.attempt) == (25, 1, 2, 1)
    assert (found.seconds, found.slowest_s, found.tokens, found.flops) == (33.0, 9.0, 33.0, 175.0)
    assert [(step.step, step.sample_ids) for step in found.last] == [(step, ()) for step in range(16, 26)]
    assert found == summed(tmp_path) == sum_steps(tmp_path)


def test_a_reader_parses_only_what_was_written_since(tmp_path: Path, parsed):
    reader, writer = StepReader(tmp_path), LineWriter(tmp_path, METRICS, 1)
    assert reader.read() == RunSteps()
    for step in range(1, 26):
        writer.write(metrics(1, step))
        assert reader.read().steps == step
        assert reader.read() is reader.read()
    assert len(parsed) == 25 + 1  # where the file begins was asked for, when it was new


def test_a_reader_sees_what_reading_anew_sees(tmp_path: Path):
    reader, first = StepReader(tmp_path), LineWriter(tmp_path, METRICS, 1)
    path = tmp_path / METRICS / "attempt-0001.jsonl"
    for step in (1, 2, 3, 4):
        first.write(metrics(1, step))
    assert reader.read() == summed(tmp_path)
    second = LineWriter(tmp_path, METRICS, 2)
    assert reader.read().steps == 4  # the file of the new attempt is empty
    second.write(metrics(2, 3, loss=2.0))
    assert [(m.step, m.attempt) for m in reader.read().last] == [(1, 1), (2, 1), (3, 2)]
    assert reader.read() == summed(tmp_path)
    first.write(metrics(1, 5))  # by a worker that was lost and lives
    assert reader.read() == summed(tmp_path)
    assert [m.attempt for m in reader.read().last] == [1, 1, 2]
    with path.open("a") as stream:
        stream.write('{"attempt": 1')
    assert reader.read() == summed(tmp_path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
    assert [m.step for m in reader.read().last] == [1, 3]
    path.unlink()
    assert [m.step for m in reader.read().last] == [3]


def test_a_line_cut_by_a_kill_is_not_read_again_and_again(tmp_path: Path, parsed):
    reader, first = StepReader(tmp_path), LineWriter(tmp_path, METRICS, 1)
    first.write(metrics(1, 1))
    with (tmp_path / METRICS / "attempt-0001.jsonl").open("a") as stream:
        stream.write('{"attempt": 1')
    second = LineWriter(tmp_path, METRICS, 2)
    second.write(metrics(2, 2))
    assert reader.read().steps == 2
    parsed.clear()
    second.write(metrics(2, 3))
    assert reader.read().steps == 3
    assert len(parsed) == 1


def test_who_does_not_need_the_rows_does_not_get_them(tmp_path: Path):
    writer = LineWriter(tmp_path, METRICS, 1)
    writer.write(metrics(1, 1).model_copy(update={"sample_ids": ("law:3", "news:7")}))
    writer.close()
    assert [step.sample_ids for step in read_metrics(tmp_path)] == [("law:3", "news:7")]
    assert [step.sample_ids for step in read_metrics(tmp_path, rows=False)] == [()]
