"""The loop counts tokens, stops at the budget, and drops a step that is not finite before it changes anything."""

from __future__ import annotations

import math

import pytest

from cpt_ray.config.sections.watch import GuardsConfig
from cpt_ray.errors import TrainingError
from cpt_ray.records import RunProgress
from cpt_ray.train.loop import Course, train
from cpt_ray.train.monitor.step_checks import Guards
from cpt_ray.train.order.batches import Batch
from cpt_ray.train.order.samples import SampleId


class ScriptedEngine:
    """Returns losses and norms from lists; records its calls."""

    def __init__(self, losses: list[float], norms: list[float]) -> None:
        self.losses, self.norms, self.rates, self.taken = iter(losses), iter(norms), [], []

    def accumulate(self, micro_batches, *, loss_tokens):
        return next(self.losses)

    def step(self, learning_rate, *, take):
        norm = next(self.norms)
        self.rates.append(learning_rate)
        self.taken.append(take and math.isfinite(norm))
        return norm if take else math.nan


START = RunProgress()


class Seen:
    """A monitor and checkpoints that record their calls; a checkpoint is due after every second step."""

    def __init__(self) -> None:
        self.lines, self.saved, self.events, self.phases, self.observed = [], [], [], [], []
        self.log, self.report, self.save = self.lines.append, self.events.append, self.saved.append

    def enter(self, phase, step=None):
        self.phases.append((phase, step))

    def observe(self, before, after):
        self.observed.append((before.step, after.step))

    def requested(self):
        return None

    def due(self, before, after):
        return after.step % 2 == 0


def run(losses, norms=None, *, stop=250, start=START, **guards):
    engine, seen = ScriptedEngine(losses, norms or [1.0] * len(losses)), Seen()
    seen.engine = engine
    try:
        course = Course(
            stop_tokens=stop,
            batch_at=lambda position: Batch((), 100, 128, tuple(SampleId("law", position + i) for i in range(4)), 32.0),
            learning_rate=lambda tokens: tokens,
            flops=lambda batch: 1e6,
            peak_flops_per_s=1e9,
            attempt=1,
        )
        checks = Guards(GuardsConfig(**guards), attempt=1)
        seen.end = train(start, course, engine=engine, guards=checks, monitor=seen, checkpoints=seen)
    except TrainingError as error:
        seen.error = error
    return seen


def test_it_stops_at_the_first_step_at_or_past_the_budget():
    seen = run([3.0, 2.0, 1.0])
    assert seen.end == RunProgress(step=3, position=12, tokens_seen=300, slots_seen=384)
    assert seen.engine.rates == [50, 150, 250]
    assert [line.tokens_seen for line in seen.lines] == [100, 200, 300]
    assert [progress.step for progress in seen.saved] == [2]
    assert seen.lines[1].sample_ids == ("law:4", "law:5", "law:6", "law:7")
    assert seen.phases == [("data", 1), ("data", 2), ("checkpoint", 2), ("data", 3)]
    assert seen.observed == [(0, 1), (1, 2), (2, 3)]
    assert seen.events == []


def test_it_goes_on_from_where_it_was():
    seen = run([1.0], start=RunProgress(step=2, position=8, tokens_seen=200, slots_seen=256))
    assert (seen.end.step, seen.end.position, seen.lines[0].step) == (3, 12, 3)


def test_a_finished_run_takes_no_step():
    seen = run([], start=RunProgress(step=3, position=12, tokens_seen=300, slots_seen=384))
    assert seen.end.step == 3
    assert seen.engine.rates == []


BAD = [
    ([1.0, math.nan], [1.0, 1.0], "loss is nan"),
    ([1.0, math.inf], [1.0, 1.0], "loss is inf"),
    ([1.0, 1.0], [1.0, math.nan], "gradient norm is nan"),
]


@pytest.mark.parametrize(("losses", "norms", "what"), BAD)
def test_a_step_that_is_not_finite_stops_the_run_and_is_not_taken(losses, norms, what):
    seen = run(losses, norms)
    assert str(seen.error.problem) == f"step 2 at 100 tokens: {what}; rows law:4, law:5, law:6, law:7"
    assert "lower train.learning_rate" in seen.error.fix
    assert seen.engine.taken == [True, False]
    assert [line.step for line in seen.lines] == [1]
    assert seen.saved == []


@pytest.mark.parametrize(("losses", "norms", "what"), BAD)
def test_within_the_limit_it_is_skipped_and_its_tokens_do_not_count(losses, norms, what):
    seen = run([*losses, 1.0, 1.0], [*norms, 1.0, 1.0], max_skipped_steps=1)
    assert seen.end == RunProgress(step=4, position=16, tokens_seen=300, slots_seen=384, steps_skipped=1, tokens_skipped=100)
    assert seen.engine.taken == [True, False, True, True]
    assert seen.engine.rates == [50, 150, 150, 250]  # the rate is a function of the tokens trained on
    assert [line.skipped for line in seen.lines] == [False, True, False, False]
    skipped = seen.lines[1]
    assert (skipped.tokens_seen, skipped.tokens_skipped, skipped.tokens_per_s, skipped.flops) == (100, 100, 0, 0)
    (event,) = seen.events
    assert (event.kind, event.step, event.tokens_seen, event.text) == ("skipped_step", 2, 100, what)
    assert event.sample_ids == ("law:4", "law:5", "law:6", "law:7")
    assert [progress.steps_skipped for progress in seen.saved] == [1, 1]


def test_more_than_the_limit_stops_and_the_count_goes_on_over_a_resume():
    seen = run([1.0, math.nan, math.nan], max_skipped_steps=1)
    assert "step 3 at 100 tokens: loss is nan; rows law:8" in seen.error.problem
    assert "1 skipped before it, and train.guards.max_skipped_steps is 1" in seen.error.problem
    resumed = run([math.nan], max_skipped_steps=1, start=seen.saved[0])
    assert seen.saved[0].steps_skipped == 1
    assert "step 3 at 100 tokens: loss is nan" in resumed.error.problem


def test_a_spike_is_reported_and_goes_on():
    seen = run([2.0] * 5 + [9.0, 2.0], stop=700, spike_window=10)
    (event,) = seen.events
    assert (event.kind, event.step, event.text, event.usual_loss) == ("spike", 6, "loss 9.0000, usual 2.0000", 2.0)
    assert [line.step for line in seen.lines if line.spike] == [6]
    assert seen.end.step == 7


def test_a_spike_stops_before_its_step_where_the_study_says_so():
    seen = run([2.0] * 5 + [9.0, 2.0], stop=700, spike_window=10, on_spike="stop")
    assert seen.error.problem.startswith("step 6 at 500 tokens: loss spike: loss 9.0000, usual 2.0000; rows law:20")
    assert "train.guards.on_spike=warn" in seen.error.fix
    assert len(seen.engine.rates) == 5
    assert [event.kind for event in seen.events] == ["spike"]
