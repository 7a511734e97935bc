"""The spike monitor: a jump is reported once, noise and a falling loss are not, and history makes a resumed run equal."""

from __future__ import annotations

import random

import pytest

from cpt_ray.config.sections.watch import GuardsConfig
from cpt_ray.train.monitor.step_checks import Guards, SpikeMonitor
from cpt_ray.train.order.batches import Batch
from cpt_ray.train.order.samples import SampleId


def noisy(count, *, seed=0, start=3.0, slope=0.0):
    generator = random.Random(seed)
    return [start - slope * i + generator.gauss(0, 0.05) for i in range(count)]


def spikes(monitor, losses):
    return [index for index, loss in enumerate(losses) if monitor.see(loss) is not None]


def test_noise_and_a_falling_loss_are_no_spikes():
    for seed in range(20):
        assert spikes(SpikeMonitor(window=100, sigmas=6), noisy(500, seed=seed)) == []
        assert spikes(SpikeMonitor(window=100, sigmas=6), noisy(500, seed=seed, slope=0.003)) == []


def test_a_jump_is_found_at_its_step_and_only_once_while_it_lasts():
    losses = noisy(200)
    losses[150:155] = [4.0, 4.2, 4.1, 3.9, 3.8]
    losses[180] = 5.0
    monitor = SpikeMonitor(window=100, sigmas=6)
    assert spikes(monitor, losses) == [150, 180]


def test_the_usual_loss_is_the_windows_median():
    monitor = SpikeMonitor(window=10, sigmas=6, history=[1.0, 2.0, 3.0, 2.0, 2.0])
    assert monitor.see(50.0) == 2.0


def test_equal_losses_have_no_spread_and_rounding_is_no_spike():
    monitor = SpikeMonitor(window=10, sigmas=6, history=[2.0] * 10)
    assert monitor.see(2.02) is None
    assert monitor.see(2.03) == pytest.approx(2.0)


def test_too_few_losses_say_nothing():
    assert spikes(SpikeMonitor(window=100, sigmas=6), [2.0] * 49 + [9.0]) == []
    assert spikes(SpikeMonitor(window=100, sigmas=6), [2.0] * 50 + [9.0]) == [50]


def test_history_makes_a_resumed_monitor_equal_to_one_that_never_stopped():
    losses = noisy(300)
    losses[120] = losses[121] = losses[205] = 9.0
    whole = SpikeMonitor(window=100, sigmas=6)
    first = spikes(whole, losses)
    for cut in (121, 150, 204):
        resumed = SpikeMonitor(window=100, sigmas=6, history=losses[:cut])
        assert [index + cut for index in spikes(resumed, losses[cut:])] == [index for index in first if index >= cut]
    assert spikes(SpikeMonitor(window=100, sigmas=6), losses[204:]) == []  # without history it would not be found


def test_a_loss_that_is_not_finite_does_not_enter_the_window():
    guards = Guards(GuardsConfig(spike_window=10), attempt=1, history=[2.0] * 10)
    batch = Batch((), 100, 128, (SampleId("law", 1),), 32.0)
    assert guards.see_loss(float("inf"), step=1, tokens_seen=0, batch=batch) is None
    assert guards.see_loss(9.0, step=2, tokens_seen=0, batch=batch).usual_loss == 2.0


def test_a_long_batch_is_named_in_part():
    guards = Guards(GuardsConfig(), attempt=1)
    batch = Batch((), 100, 128, tuple(SampleId("law", i) for i in range(10)), 32.0)
    with pytest.raises(Exception, match=r"rows law:0, .*law:7 and 2 more"):
        guards.skip(float("nan"), 1.0, step=1, tokens_seen=0, skipped=0, batch=batch)
