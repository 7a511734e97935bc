"""The loop counts tokens, stops at the budget, and refuses what is not finite before anything is committed."""

from __future__ import annotations

import math

import pytest

from cpt_ray.errors import TrainingError
from cpt_ray.train.batches import Batch
from cpt_ray.train.loop import Progress, train
from cpt_ray.train.order import SampleId


class ScriptedEngine:
    """Returns losses and norms from lists; records what it was asked."""

    def __init__(self, losses: list[float], norms: list[float]) -> None:
        self.losses, self.norms, self.rates = iter(losses), iter(norms), []

    def accumulate(self, micro_batches, *, loss_tokens):
        return next(self.losses)

    def step(self, learning_rate):
        self.rates.append(learning_rate)
        return next(self.norms)


START = Progress()


def run(losses, norms, *, stop=250, start=START):
    engine, lines, saved = ScriptedEngine(losses, norms), [], []
    end = train(
        start,
        stop_tokens=stop,
        engine=engine,
        batch_at=lambda position: Batch((), 100, 128, (SampleId("law", position),) * 4, 32.0),
        learning_rate=lambda tokens: tokens,
        flops=lambda batch: 1e6,
        peak_flops_per_s=1e9,
        log=lines.append,
        checkpoint_due=lambda before, after: after.step % 2 == 0,
        save=saved.append,
        attempt=1,
    )
    return end, engine, lines, saved


def test_it_stops_at_the_first_step_at_or_past_the_budget():
    end, engine, lines, saved = run([3.0, 2.0, 1.0], [1.0, 1.0, 1.0])
    assert end == Progress(step=3, position=12, tokens_seen=300, slots_seen=384)
    assert engine.rates == [50, 150, 250]
    assert [line.tokens_seen for line in lines] == [100, 200, 300]
    assert [progress.step for progress in saved] == [2]
    assert lines[1].sample_ids == ("law:4",) * 4


def test_it_goes_on_from_where_it_was():
    end, _, lines, _ = run([1.0], [1.0], start=Progress(2, 8, 200, 256))
    assert (end.step, end.position, lines[0].step) == (3, 12, 3)


def test_a_finished_run_takes_no_step():
    end, engine, _, _ = run([], [], start=Progress(3, 12, 300, 384))
    assert end.step == 3
    assert engine.rates == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_step(bad):
    with pytest.raises(TrainingError, match=r"step 2 at 100 tokens: loss is (nan|inf); rows law:4") as error:
        run([1.0, bad], [1.0, 1.0])
    assert "lower train.learning_rate" in error.value.fix


def test_a_gradient_norm_that_is_not_finite_stops_before_the_commit():
    with pytest.raises(TrainingError, match="gradient norm is nan"):
        run([1.0, 1.0], [1.0, math.nan])
