"""The loop counts tokens, stops at the budget, and drops a step that is not finite before it changes anything."""

from __future__ import annotations

import math
import time

import pytest

from cpt_ray.config.sections.watch import GuardsConfig
from cpt_ray.errors import TrainingError
from cpt_ray.records import RunProgress
from cpt_ray.train.engine.outcome import LoweredScale
from cpt_ray.train.loop import Course, train
from cpt_ray.train.monitor.step_checks import Guards
from cpt_ray.train.order.batches import Batch
from cpt_ray.train.order.samples import SampleId


class ScriptedOutcome:
    def __init__(self, engine: ScriptedEngine, step: int, loss: float, norm: float) -> None:
        self.engine, self.step, self.loss, self.norm = engine, step, loss, norm
        self.lowered = norm if isinstance(norm, LoweredScale) else None

    def read(self):
        self.engine.read.append((self.step, len(self.engine.rates)))
        return self.loss, self.norm


class ScriptedEngine:
    """Returns losses and norms from lists; records its calls, and how many steps were launched when each outcome was read.

    A lowered loss scale in place of a norm asks for the step to be repeated.
    """

    def __init__(self, losses: list[float], norms: list[float]) -> None:
        self.losses, self.norms, self.rates, self.taken, self.read = iter(losses), iter(norms), [], [], []

    def accumulate(self, micro_batches, *, loss_tokens):
        return next(self.losses)

    def step(self, learning_rate, loss):
        norm = next(self.norms) if math.isfinite(loss) else (next(self.norms), math.nan)[1]
        if isinstance(norm, LoweredScale):
            return ScriptedOutcome(self, len(self.rates), loss, norm)
        self.rates.append(learning_rate)
        self.taken.append(math.isfinite(norm))
        return ScriptedOutcome(self, len(self.rates), loss, norm)


START = RunProgress()


def batch(position):
    return Batch((), 100, 128, tuple(SampleId("law", position + i) for i in range(4)), 32.0)


class Seen:
    """A monitor and checkpoints that record their calls; a checkpoint is due after every second step."""

    def __init__(self) -> None:
        self.lines, self.saved, self.events, self.phases, self.observed = [], [], [], [], []
        self.stop_at = math.inf
        self.log, self.report, self.save = self.lines.append, self.events.append, self.saved.append

    def enter(self, phase, step=None):
        self.phases.append((phase, step))

    def observe(self, before, after):
        self.observed.append((before.step, after.step))
        self.at_observe = after

    def requested(self):
        return "stop" if self.phases[-1][1] >= self.stop_at else None

    def due(self, before, after):
        return after.step % 2 == 0


class Rare(Seen):
    """A measurement or checkpoint is due only where a test says so."""

    def due(self, before, after):
        return False


def run(losses, norms=None, *, stop=250, start=START, lag=0, seen=None, batch_at=None, **guards):
    engine, seen = ScriptedEngine(losses, norms or [1.0] * len(losses)), seen or Seen()
    seen.engine = engine
    try:
        course = Course(
            stop_tokens=stop,
            batch_at=batch_at or batch,
            learning_rate=lambda tokens: tokens,
            flops=lambda batch: 1e6,
            peak_flops_per_s=1e9,
            attempt=1,
        )
        checks = Guards(GuardsConfig(**guards), attempt=1)
        seen.end = train(start, course, engine=engine, guards=checks, monitor=seen, checkpoints=seen, lag=lag)
    except (TrainingError, OSError) as error:
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
    assert seen.end == RunProgress(step=3, position=12, tokens_seen=200, slots_seen=256, steps_skipped=1, tokens_skipped=100)
    assert seen.engine.taken == [True, False, True]
    assert seen.engine.rates == [50, 150, 250]  # a skipped batch is spent: rate and end do not depend on outcomes
    assert [line.skipped for line in seen.lines] == [False, True, False]
    skipped = seen.lines[1]
    assert (skipped.tokens_seen, skipped.tokens_skipped, skipped.tokens_per_s, skipped.flops) == (100, 100, 0, 0)
    (event,) = seen.events
    assert (event.kind, event.step, event.tokens_seen, event.text) == ("skipped_step", 2, 100, what)
    assert event.sample_ids == ("law:4", "law:5", "law:6", "law:7")
    assert [progress.steps_skipped for progress in seen.saved] == [1]


def test_more_than_the_limit_stops_and_the_count_goes_on_over_a_resume():
    seen = run([1.0, math.nan, math.nan], max_skipped_steps=1)
    assert "step 3 at 100 tokens: loss is nan; rows law:8" in seen.error.problem
    assert "1 skipped before it, and train.guards.max_skipped_steps is 1" in seen.error.problem
    resumed = run([math.nan], max_skipped_steps=1, start=seen.saved[0])
    assert seen.saved[0].steps_skipped == 1
    assert "step 3 at 100 tokens: loss is nan" in resumed.error.problem


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_an_overflow_of_the_loss_scale_repeats_the_step_and_neither_skips_nor_spends_anything(lag):
    norms = [1.0, LoweredScale(65536, 32768), LoweredScale(32768, 16384), 1.0, LoweredScale(16384, 8192), 1.0]
    seen = run([2.0] * 6, norms, lag=lag)
    assert seen.end == RunProgress(step=3, position=12, tokens_seen=300, slots_seen=384)
    assert seen.engine.rates == [50, 150, 250]
    assert [line.sample_ids[0] for line in seen.lines] == ["law:0", "law:4", "law:8"]
    assert not any(line.skipped for line in seen.lines)
    assert [(event.kind, event.step, event.tokens_seen) for event in seen.events] == [
        ("overflow", 2, 100),
        ("overflow", 2, 100),
        ("overflow", 3, 200),
    ]
    assert seen.events[0].text == "a gradient overflowed at loss scale 65536; the step is repeated at 32768"


def test_a_step_that_no_loss_scale_helps_is_skipped_or_refused_like_any_other():
    norms = [LoweredScale(2, 1), math.nan]
    seen = run([2.0, 2.0], norms)
    assert "step 1 at 0 tokens: gradient norm is nan; rows law:0" in seen.error.problem
    assert [event.kind for event in seen.events] == ["overflow"]
    seen = run([2.0, 2.0, 2.0], [*norms, 1.0], stop=150, max_skipped_steps=1)
    assert (seen.end.tokens_seen, seen.end.tokens_skipped) == (100, 100)


def test_a_spike_is_reported_and_goes_on():
    seen = run([2.0] * 5 + [9.0, 2.0], stop=700, spike_window=10)
    (event,) = seen.events
    assert (event.kind, event.step, event.text, event.usual_loss) == ("spike", 6, "loss 9.0000, usual 2.0000", 2.0)
    assert [line.step for line in seen.lines if line.spike] == [6]
    assert seen.end.step == 7


def test_a_spike_stops_where_the_study_says_so_and_nothing_is_saved_after_it():
    seen = run([2.0] * 5 + [9.0, 2.0], stop=700, spike_window=10, on_spike="stop")
    assert seen.error.problem.startswith("step 6 at 500 tokens: loss spike: loss 9.0000, usual 2.0000; rows law:20")
    assert "train.guards.on_spike=warn" in seen.error.fix
    assert [event.kind for event in seen.events] == ["spike"]
    assert [line.step for line in seen.lines] == [1, 2, 3, 4, 5]
    assert [progress.step for progress in seen.saved] == [2, 4]


NAN = math.nan
SCENES = {
    "plain": ([2.0] * 9, None, {}),
    "skips": ([2.0, 2.0, NAN, 2.0, NAN, 2.0, 2.0, 2.0, 2.0], [1.0] * 3 + [NAN] + [1.0] * 5, {"max_skipped_steps": 3}),
    "a skip too many": ([2.0, NAN, 2.0, NAN, 2.0, 2.0, 2.0, 2.0, 2.0], None, {"max_skipped_steps": 1}),
    "a spike": ([2.0] * 5 + [9.0] + [2.0] * 3, None, {"spike_window": 10}),
    "a spike that stops": ([2.0] * 5 + [9.0] + [2.0] * 3, None, {"spike_window": 10, "on_spike": "stop"}),
}
REFUSED_AT = {"a skip too many": 4, "a spike that stops": 6}


def facts(seen):
    """What lasts of a run: its lines without times, events, checkpoints, end, error."""
    times = {"tokens_per_s", "step_s", "data_wait_s", "mfu"}
    return {
        "lines": [str({k: v for k, v in line if k not in times}) for line in seen.lines],
        "events": [str(event) for event in seen.events],
        "saved": seen.saved,
        "end": getattr(seen, "end", None),
        "error": str(getattr(seen, "error", None)),
    }


@pytest.mark.parametrize("lag", [1, 2, 5])
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("stop_at", [math.inf, 4])
def test_at_any_lag_lines_events_checkpoints_and_errors_are_the_same(scene, lag, stop_at):
    losses, norms, guards = SCENES[scene]
    found = []
    for late in (0, lag):
        seen = Seen()
        seen.stop_at = stop_at
        found.append(facts(run(losses, norms, stop=850, seen=seen, lag=late, **guards)))
    assert found[0] == found[1]
    assert (found[0]["end"] is None) is (REFUSED_AT.get(scene, 99) <= min(stop_at, 9))


def test_an_outcome_is_read_a_lag_later_and_before_anything_that_lasts():
    seen = run([2.0] * 5, stop=450, seen=Rare(), lag=2)
    assert seen.engine.read == [(1, 3), (2, 4), (3, 5), (4, 5), (5, 5)]
    assert run([2.0] * 5, stop=450, lag=2).engine.read == [(1, 2), (2, 2), (3, 4), (4, 4), (5, 5)]  # each second step is saved


def test_what_is_measured_and_saved_knows_which_steps_were_skipped():
    seen = run([2.0, NAN, 2.0, 2.0], stop=350, lag=5, max_skipped_steps=1)
    assert (seen.saved[0].tokens_seen, seen.saved[0].tokens_skipped) == (100, 100)
    assert seen.at_observe == seen.end


def test_an_error_while_a_step_is_launched_leaves_no_line_out_and_a_guards_refusal_goes_first():
    def breaks(position):
        if position == 12:
            raise OSError("a shard is gone")
        return batch(position)

    seen = run([2.0] * 3, stop=850, seen=Rare(), lag=2, batch_at=breaks)
    assert str(seen.error) == "a shard is gone"
    assert [line.step for line in seen.lines] == [1, 2, 3]
    seen = run([2.0, 2.0, NAN], stop=850, seen=Rare(), lag=2, batch_at=breaks)
    assert "step 3 at 200 tokens: loss is nan" in seen.error.problem


def test_the_times_of_late_steps_add_up_to_no_more_than_the_run():
    started = time.perf_counter()
    seen = run([2.0] * 9, stop=850, seen=Rare(), lag=3)
    assert 0 < sum(line.step_s for line in seen.lines) <= time.perf_counter() - started
