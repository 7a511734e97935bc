"""What a token of measured runs cost."""

from __future__ import annotations

import pytest

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import load_hardware, parse_price
from cpt_ray.records import RunRecord
from cpt_ray.study.cost.paid import token_prices
from cpt_ray.study.cost.place import AS_CONFIGURED, Choice
from tests.report.made_up import make_contents
from tests.report.test_page import trained_otherwise

RUNTIME = RuntimeConfig(workers=2, cpus_per_worker=4)
PRICE = parse_price("3.6", "USD")


def runs(*, on_gpu: bool) -> list[RunRecord]:
    """Those of a made-up study."""
    change = {"wall_s": 90.0, "checkpoint_s": 6.0, "held_out_s": 4.0, "device_peak_bytes": 1 << 30 if on_gpu else None}
    return [
        trained_otherwise(run, cost=run.training.cost.model_copy(update=change)) if run.training else run
        for run in make_contents().runs
    ]


def test_a_token_costs_the_device_hours_of_its_arm_s_runs_over_their_tokens():
    made = [run for run in runs(on_gpu=True) if run.arm == "legal"]
    found = token_prices(runs(on_gpu=True), RUNTIME, Choice(price=PRICE), None)
    workers = made[0].training.world_sizes[-1]
    # 100 s a run at 3.6 USD an hour is 0.1 USD a GPU.
    expected = 0.1 * len(made) * workers / sum(run.tokens_paid for run in made)
    assert found.per_token[made[0].model, "legal"] == pytest.approx(expected)
    assert found.currency == "USD"
    assert found.basis == f"3.6 USD per GPU hour on {PRICE.date}, at the pace of the arm's runs"
    # On CPUs a worker takes its four cores.
    cores = token_prices(runs(on_gpu=False), RUNTIME, Choice(price=PRICE), None)
    assert cores.per_token[made[0].model, "legal"] == pytest.approx(4 * expected)
    assert "per CPU hour" in cores.basis


def test_a_profile_s_dated_price_is_taken_and_without_any_there_is_none():
    h100 = load_hardware("h100")
    priced = h100.model_copy(update={"price": PRICE.model_copy(update={"date": "2026-01-02"})})
    assert "on 2026-01-02" in token_prices(runs(on_gpu=True), RUNTIME, Choice(priced), None).basis
    assert "on 2026-01-02" in token_prices(runs(on_gpu=True), RUNTIME, AS_CONFIGURED, priced).basis
    assert token_prices(runs(on_gpu=True), RUNTIME, AS_CONFIGURED, h100) is None
    assert token_prices(runs(on_gpu=True), RUNTIME, AS_CONFIGURED, None) is None
    # The price of a card says nothing of runs on CPUs.
    assert token_prices(runs(on_gpu=False), RUNTIME, AS_CONFIGURED, priced) is None
    assert token_prices([run for run in runs(on_gpu=True) if not run.training], RUNTIME, Choice(price=PRICE), None) is None


def test_hardware_without_a_price_or_of_another_kind_is_refused():
    h100 = load_hardware("h100")
    with pytest.raises(ConfigError, match=r"--hardware h100: this profile has no price\n  fix: add --price 2.5"):
        token_prices(runs(on_gpu=True), RUNTIME, Choice(h100), None)
    with pytest.raises(ConfigError, match="--hardware h100: the runs of this study computed on CPUs"):
        token_prices(runs(on_gpu=False), RUNTIME, Choice(h100, price=PRICE), None)
