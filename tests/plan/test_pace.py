"""Seconds of a step, from a profile and from a trial."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cpt_ray.model.parameters import flops_per_token
from cpt_ray.plan.hardware import load_hardware
from cpt_ray.plan.pace import Load, Tried, planned_pace
from cpt_ray.records import Trial
from cpt_ray.train.order.batch_split import BatchSplit
from tests.plan.test_worker import SMALL, settings, zero_of

TRIAL = Trial(
    base_bytes=480_000_000, host_peak_bytes=2_000_000_000, device_peak_bytes=None, passes=2, pass_s=2.0, step_s=0.5,
    first_step_s=6.0, import_s=3.0, build_s=1.5, save_s=0.8, export_s=0.2, score_tokens_per_s=500.0,
)  # fmt: skip


def load_of(rows: int = 2, *, workers: int = 1, stage: int = 2, **train: object) -> Load:
    return Load(SMALL, settings(**train), zero_of(stage), BatchSplit(16, workers, rows), 512, 200.0)


def test_a_profile_s_core_takes_its_share_of_the_peak_and_an_update_its_bandwidth():
    cpu, load = load_hardware("cpu"), load_of()
    pace = planned_pace(load, cpu, 2, None)
    flops = 2 * 512 * flops_per_token(SMALL, 200.0)
    assert pace.pass_s == pytest.approx(flops / (2 * 4e11 * 0.4))
    assert pace.step_s == pytest.approx(SMALL.parameters * 30 / 2e10)
    assert pace.optimizer_step_s(load.split) == pytest.approx(8 * pace.pass_s + pace.step_s)
    assert pace.score_tokens_per_s == pytest.approx(3 * 1024 / pace.pass_s)
    recomputed = planned_pace(load_of(gradient_checkpointing=True), cpu, 2, None)
    assert recomputed.pass_s == pytest.approx(1.3 * pace.pass_s)


def test_states_that_are_shared_are_updated_and_saved_faster():
    h100 = load_hardware("h100")
    one, eight = planned_pace(load_of(), h100, 1, None), planned_pace(load_of(workers=8), h100, 1, None)
    assert one.step_s == pytest.approx(8 * eight.step_s)
    assert one.save_s == pytest.approx(8 * eight.save_s)


def test_a_trial_is_taken_as_it_is_and_scaled_to_other_settings():
    cpu, load = load_hardware("cpu"), load_of()
    tried = Tried(load, TRIAL)
    same = planned_pace(load, cpu, 2, tried)
    assert (same.pass_s, same.step_s, same.save_s, same.build_s) == (2.0, 0.5, 0.8, 1.5)
    assert same.score_tokens_per_s == 500.0
    # What the first step took beyond a usual one of the trial's two passes: 6 - 2 x 2 - 0.5.
    assert same.start_s == pytest.approx(3.0 + 1.5)
    assert planned_pace(load_of(4), cpu, 2, tried).pass_s == pytest.approx(4.0)
    halved = planned_pace(load_of(workers=2), cpu, 2, tried)
    assert (halved.step_s, halved.save_s) == (pytest.approx(0.25), pytest.approx(0.4))
    assert planned_pace(load_of(gradient_checkpointing=True), cpu, 2, tried).pass_s == pytest.approx(2.6)
    assert planned_pace(load, cpu, 2, replace(tried, load=load_of(gradient_checkpointing=True))).pass_s == pytest.approx(
        2 / 1.3
    )
