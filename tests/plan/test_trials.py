"""Which trial a plan uses, and by how much it shifts the estimate."""

from __future__ import annotations

from cpt_ray.plan.memory import Work, estimate_memory
from cpt_ray.plan.trials import SavedRate, SavedTrial, beyond_estimate, fitting_trial, tried
from cpt_ray.plan.worker import Place
from tests.plan.test_pace import TRIAL
from tests.plan.test_worker import SMALL, settings, zero_of

WORK = Work(Place(on_gpu=False, process="bare"), 512)


def saved(created: str = "2026-01-01", *, device: str = "cpu", rows: int = 2, **train: object) -> SavedTrial:
    return SavedTrial(
        model="m", device=device, shape=SMALL, train=settings(micro_batch_size=rows, **train), deepspeed=zero_of(2),
        micro_batch=rows, workers=1, row_tokens=512, mean_keys=200.0, trial=TRIAL, created=created,
    )  # fmt: skip


def test_a_trial_of_the_same_settings_comes_before_a_newer_one_of_others():
    same, newer = saved(), saved("2026-02-02", rows=4)
    assert fitting_trial([newer, same], SMALL, settings(micro_batch_size=2), "cpu") is same
    assert fitting_trial([newer, same], SMALL, settings(micro_batch_size=1), "cpu") is newer


def test_a_trial_elsewhere_or_of_another_model_or_precision_does_not_count():
    mine = [saved()]
    assert fitting_trial(mine, SMALL, settings(), "NVIDIA H200") is None
    assert fitting_trial(mine, SMALL, settings(precision="fp32"), "cpu") is None
    assert fitting_trial(mine, SMALL.model_copy(update={"parameters": 7}), settings(), "cpu") is None
    assert tried(None) is None


def test_with_its_own_settings_a_plan_has_the_peak_of_the_trial():
    one = saved()
    beyond = beyond_estimate(one, WORK)
    plan = estimate_memory(
        "m", shape=SMALL, deepspeed=one.deepspeed, train=one.train, num_workers=1, work=WORK._replace(measured_bytes=beyond)
    )
    assert plan.peak_bytes == TRIAL.host_peak_bytes
    # A study's driver holds more than a trial's process, which trains only.
    driver = WORK._replace(place=WORK.place._replace(process="local"))
    assert beyond_estimate(one, driver) == beyond
    blind = one.model_copy(update={"trial": TRIAL.model_copy(update={"host_peak_bytes": None})})
    assert beyond_estimate(blind, WORK) is None


def test_on_a_gpu_the_trial_is_compared_with_what_torch_allocates():
    card = saved(device="a card").model_copy(update={"trial": TRIAL.model_copy(update={"device_peak_bytes": 900_000_000})})
    work = Work(Place(on_gpu=True, process="bare"), 512)
    beyond = beyond_estimate(card, work)
    plan = estimate_memory(
        "m", shape=SMALL, deepspeed=card.deepspeed, train=card.train, num_workers=1, work=work._replace(measured_bytes=beyond)
    )
    assert plan.allocated_bytes == 900_000_000 < plan.peak_bytes


def test_a_rate_is_bytes_over_seconds():
    assert SavedRate(sources="0", sampled_bytes=3_000_000, seconds=2.0, created="").bytes_per_s == 1_500_000
