"""The time of stages and runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cpt_ray.plan.hardware import load_hardware
from cpt_ray.plan.hours import Hours, Scored, Text, plan_time
from cpt_ray.plan.pace import Pace
from cpt_ray.train.runs.specs import plan_runs
from tests.plan.planned import make_plan, make_study
from tests.plan.test_pace import load_of

PACE = Pace(pass_s=2.0, step_s=0.5, save_s=0.8, export_s=0.2, start_s=4.0, build_s=1.0, score_tokens_per_s=500.0)
TEXT = Text(69_000_000.0, workers=2, start_s=10.0)


def hours(**change: object) -> Hours:
    given = {
        "hardware": load_hardware("cpu"), "cores": 2.0, "loads": {"m": load_of()}, "paces": {"m": PACE}, "text": TEXT,
        "scored": Scored(models=4, tokens=1000.0, at_once=2, devices=2.0, counted=False), "groups": 1, "ray_start_s": 12.0,
        "measured": False,
    }  # fmt: skip
    return Hours(**{**given, **change})


def planned(**change: object):
    config = make_study()
    return plan_time(hours(**change), make_plan(config).runs, plan_runs(config), config.train)


def test_a_run_is_its_model_its_steps_its_branch_points_and_its_exports():
    found = planned().run_seconds
    # A trunk to 3,000 tokens: 16 steps of 8 passes and an update, two branch points. A branch: its steps and an export.
    assert found["m-legal-trunk-seed0"] == pytest.approx(1.0 + 16 * 16.5 + 2 * 0.8)
    assert found["m-legal-1000-seed0"] == pytest.approx(1.0 + 2 * 16.5 + 0.2)


def test_runs_stand_one_after_another_in_one_group_and_a_branch_waits_for_its_trunk_in_several():
    one, many = planned(), planned(groups=8)
    seconds = one.run_seconds
    assert one.stages[1].seconds == pytest.approx(12 + 4 + sum(seconds.values()))
    # The control and the line from the trunk to its largest budget go side by side; the longer one counts.
    line = seconds["m-legal-trunk-seed0"] + seconds["m-legal-4000-seed0"]
    assert many.stages[1].seconds == pytest.approx(12 + 4 + max(line, seconds["m-control-4000-seed0"]))
    # Three runs that nothing follows: two budgets and the control.
    assert many.stages[1].devices == 3 * one.stages[1].devices == 6
    assert many.stages[1].basis == "profile; 3 groups of workers side by side"


def test_a_cluster_that_was_not_asked_is_planned_with_one_group_and_it_is_said():
    assert "the cluster is asked for its room when the study runs" in planned(groups_asked=False).stages[1].basis
    assert planned().stages[1].basis == "profile"


def test_text_that_is_packed_again_takes_longer_by_that():
    # 35 MB at 3.5 MB/s in two processes: 5 s.
    again = planned(text=TEXT._replace(packed_again=35_000_000)).stages[0].seconds
    assert again == pytest.approx(planned().stages[0].seconds + 5)


def test_text_is_prepared_by_as_many_workers_as_there_are_and_unknown_text_takes_unknown_time():
    # 190 MB at 1.9 MB/s in two processes: 50 s.
    assert planned(text=TEXT._replace(num_bytes=190_000_000)).stages[0].seconds == pytest.approx(60.0)
    assert "assumed" in planned().stages[0].basis
    assert planned(text=TEXT._replace(bytes_per_s=6.9e6, measured=True)).stages[0].seconds == pytest.approx(15.0)
    unknown = planned(text=TEXT._replace(num_bytes=None))
    assert unknown.stages[0].seconds is None
    assert unknown.seconds == pytest.approx(sum(stage.seconds for stage in unknown.stages[1:]))


def test_models_are_scored_in_rounds_each_on_a_core():
    # Two rounds of two; a core has half the pace of the two of a worker.
    assert planned().stages[2].seconds == pytest.approx(2 * (8.0 + 1000 / 250))
    # Without Ray models are scored by the process that trained them, which has nothing to start.
    assert planned(ray_start_s=0.0).stages[2].seconds == pytest.approx(2 * (1.0 + 1000 / 250))
    tasks = Scored(models=4, tokens=1000.0, at_once=2, devices=2.0, counted=True, harness_tasks=3)
    assert planned(scored=tasks).stages[2].basis.endswith("1,000 tokens each, counted; 3 lm-eval tasks come on top")


def test_each_model_is_scored_at_its_own_pace():
    # Of four models two are ten times slower.
    paces = {"m": PACE, "large": replace(PACE, score_tokens_per_s=50.0)}
    loads = {name: load_of() for name in paces}
    found = planned(loads=loads, paces=paces, ray_start_s=0.0, scored=Scored(4, 1000.0, at_once=1, devices=2.0, counted=True))
    assert found.stages[2].seconds == pytest.approx(2 * (1.0 + 1000 / 500) + 2 * (1.0 + 1000 / 50))


@pytest.mark.parametrize(
    ("at_once", "gpus", "seconds"),
    [
        (4, 4.0, 1000 / 500),  # a GPU for each
        (4, 1.0, 4 * 1000 / 500),  # four on one
        (4, 2.0, 2 * 1000 / 500),
        (1, 0.25, 4 * 1000 / 500),  # alone on its GPU, one after another
    ],
)
def test_models_that_share_a_gpu_share_its_pace(at_once, gpus, seconds):
    scored = Scored(models=4, tokens=1000.0, at_once=at_once, devices=gpus, counted=True)
    found = planned(hardware=load_hardware("h100"), ray_start_s=0.0, scored=scored).stages[2]
    assert found.seconds == pytest.approx(4 / at_once * 1.0 + seconds)


def test_speed_is_a_share_of_the_peak_and_money_needs_a_price():
    found = planned()
    assert found.tokens_per_s["m"] == pytest.approx(16 * 512 / 16.5)
    assert found.mfu["m"] == pytest.approx(8 * load_of().pass_flops / 16.5 / 8e11)
    assert found.money is None
