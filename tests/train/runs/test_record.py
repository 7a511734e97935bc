"""The record of a fake run: sums by hand over two attempts, the later of which repeated some steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import HeldOutPoint, MemoryPoint, RunEvent, RunProgress, StepMetrics
from cpt_ray.train.monitor.metrics import ATTEMPTS, EVENTS, HELD_OUT, MEMORY, METRICS, LineWriter
from cpt_ray.train.runs.record import read_attempts, run_record, training_record
from tests.run_records import attempt
from tests.run_specs import make_spec


def step(attempt_number, number, **changes):
    fields = {
        "attempt": attempt_number, "step": number, "tokens_seen": 100 * number, "loss": 1.0, "learning_rate": 0.1,
        "gradient_norm": 1.0, "tokens_per_s": 50.0, "step_s": 2.0, "data_wait_s": 0.5, "mfu": None, "flops": 1e9,
    }  # fmt: skip
    return StepMetrics(**{**fields, **changes})


def write(folder, kind, number, lines):
    writer = LineWriter(folder, kind, number)
    for line in lines:
        writer.write(line)
    writer.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    for number, first, tokens in ((1, 0, 700), (2, 2, 900)):
        of = attempt(number, first_step=first, first_tokens=tokens, peak_flops_per_s=2e9)
        write_atomic(tmp_path / ATTEMPTS / f"attempt-{number:04d}.json", of.to_json())
    write(tmp_path, METRICS, 1, [step(1, n, spike=True, step_s=100.0) if n == 3 else step(1, n) for n in (1, 2, 3)])
    write(tmp_path, METRICS, 2, [step(2, 3, spike=True), step(2, 4, tokens_per_s=150.0, step_s=4.0)])
    return tmp_path


def test_what_a_later_attempt_did_again_counts_once(folder):
    record = training_record(folder, make_spec(1000), RunProgress(step=4, tokens_seen=1100), ())
    assert [of.attempt for of in read_attempts(folder)] == [1, 2]
    assert record.start_tokens == 700  # of the first attempt
    assert record.spikes == 1
    assert (record.cost.wall_s, record.cost.data_wait_s, record.cost.flops) == (10.0, 2.0, 4e9)
    assert record.cost.mean_tokens_per_s == pytest.approx((3 * 50 * 2 + 150 * 4) / 10)  # by time, not by step
    assert record.cost.mfu == pytest.approx(4e9 / 10 / 2e9)


def test_what_was_not_measured_is_none_and_what_was_is_the_highest_of_all_workers(folder):
    progress = RunProgress(step=4, tokens_seen=1100)
    nothing = training_record(folder, make_spec(1000), progress, ()).cost
    assert (nothing.host_peak_bytes, nothing.device_peak_bytes, nothing.checkpoint_s, nothing.held_out_s) == (None, None, 0, 0)
    memory = {"attempt": 2, "tokens_seen": 0, "phase": "forward", "host_bytes": 5, "host_peak_bytes": 6, "device_bytes": 1}
    write(
        folder,
        MEMORY,
        2,
        [
            MemoryPoint(step=3, host_peak_bytes_most=None, device_peak_bytes=None, device_peak_bytes_most=None, **memory),
            MemoryPoint(step=4, host_peak_bytes_most=9, device_peak_bytes=2, device_peak_bytes_most=3, **memory),
        ],
    )
    events = [RunEvent(kind="checkpoint", attempt=2, step=n, tokens_seen=0, text="", seconds=1.5) for n in (3, 4)]
    write(folder, EVENTS, 2, [*events, RunEvent(kind="hang", attempt=2, step=4, tokens_seen=0, text="", seconds=60.0)])
    held_out = {
        "attempt": 2, "tokens_seen": 0, "role": "domain", "part": "validation", "documents": 1, "scored_tokens": 1,
        "scored_bytes": 1, "nats_per_token": 1.0, "bits_per_byte": 1.0, "seconds": 2.0,
    }  # fmt: skip
    points = [HeldOutPoint(step=number, source=source, **held_out) for number in (3, 4) for source in ("law", "news")]
    write(folder, HELD_OUT, 2, points)
    cost = training_record(folder, make_spec(1000), progress, ()).cost
    assert (cost.host_peak_bytes, cost.device_peak_bytes) == (9, 3)
    assert cost.checkpoint_s == 3.0  # a hang is not a checkpoint
    assert cost.held_out_s == 4.0  # a point's seconds are those of all its sets


def test_a_run_is_described_as_it_was_planned(folder):
    spec = make_spec(1000, parent="m-a-trunk-seed0", kind="cooldown", budget_flops=2e15)
    training = training_record(folder, spec, RunProgress(step=4, tokens_seen=1100), ())
    record = run_record(spec, training, export=folder / "export", annealed=True)
    for name in ("kind", "model", "arm", "seed", "budget_tokens", "budget_flops", "parent"):
        assert getattr(record, name) == getattr(spec, name)
    assert (record.run, record.tokens_seen, record.tokens_paid, record.annealed) == (spec.name, 1100, 400, True)
    assert record.export_path == str(folder / "export")
    assert run_record(spec, training, export=None, annealed=False).export_path is None
