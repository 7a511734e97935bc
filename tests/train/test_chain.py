"""Chains as a worker trains them: what a stage continues, and what it starts from scratch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from cpt_ray.records import RunRecord
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.monitor.metrics import read_metrics
from tests.train.tiny_run import run, tiny_config, weights

CHAIN = {"rewarm": 400, "rewarm_from": "zero", "peak_share": 1, "optimizer": "kept"}
CHAINED = {"budgets": [600, 1400], "budget_mode": "chain", "precision": "fp32"}


@pytest.fixture(scope="module")
def first(root) -> RunRecord:
    """The first stage of a chain."""
    return run(root, "legal-600", "first", **CHAINED, chain=CHAIN)


def test_a_stage_goes_on_from_the_end_of_the_one_before_with_or_without_its_moments(root, first):
    kept = run(root, "legal-1400", "kept", "first", **CHAINED, chain=CHAIN)
    fresh = run(root, "legal-1400", "fresh", "first", **CHAINED, chain={**CHAIN, "optimizer": "fresh"})
    assert (first.kind, first.training.optimizer, kept.training.optimizer, fresh.training.optimizer) == (
        "chain",
        "fresh",
        "kept",
        "fresh",
    )
    assert kept.parent == first.run
    assert kept.training.start_tokens == fresh.training.start_tokens == first.tokens_seen > 0
    assert kept.tokens_paid == kept.tokens_seen - first.tokens_seen
    assert first.annealed
    assert kept.annealed
    end, with_moments, without = (read_metrics(root / name) for name in ("first", "kept", "fresh"))
    assert with_moments[0].step == without[0].step == end[-1].step + 1
    assert with_moments[0].sample_ids == without[0].sample_ids != end[-1].sample_ids
    # Both start from the same weights; after one step the moments make a difference.
    assert with_moments[0].loss == without[0].loss
    assert with_moments[1].loss != without[1].loss
    assert with_moments[0].learning_rate < with_moments[1].learning_rate  # it warms up again
    assert with_moments[-1].learning_rate < with_moments[-2].learning_rate


def test_a_stage_that_is_resumed_keeps_the_moments_of_its_own_checkpoint(root, first):
    whole = {**CHAINED, "checkpoint_every": 200, "keep_checkpoints": 9, "chain": {**CHAIN, "optimizer": "fresh"}}
    undisturbed = run(root, "legal-1400", "whole", "first", **whole)
    shutil.copytree(root / "whole", root / "cut")
    (root / "cut" / "run.json").unlink()
    shutil.rmtree(checkpoint.newest(root / "cut")[0])
    assert checkpoint.newest(root / "cut") is not None
    resumed = run(root, "legal-1400", "cut", "first", **whole)
    assert len(resumed.training.attempts) == 2
    assert resumed.training.start_tokens == undisturbed.training.start_tokens
    expected, found = weights(undisturbed.export_path), weights(resumed.export_path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_forgetting_zeroes_the_moments_and_leaves_the_weights(root, stage, tmp_path):
    from cpt_ray.config.deepspeed import load_deepspeed
    from cpt_ray.model.base import load_model
    from cpt_ray.train.engine.engine import Engine
    from cpt_ray.train.groups.process import require_process_group
    from cpt_ray.train.order.batches import MicroBatch

    require_process_group()
    config = tiny_config(tmp_path, precision="fp32", stage=stage)
    path = Path(config.train.deepspeed)
    assert json.loads(path.read_text())["zero_optimization"]["stage"] == stage

    def build() -> Engine:
        return Engine(
            load_model(root / "model", precision="fp32"),
            train=config.train,
            deepspeed=load_deepspeed(path),
            accumulation_steps=1,
            device=torch.device("cpu"),
        )

    ids = torch.arange(64) % 250
    batch = MicroBatch(input_ids=ids, labels=torch.cat([ids[1:], torch.tensor([-100])]), segment_lengths=(64,))

    def step(engine: Engine) -> float:
        loss = engine.accumulate([batch], loss_tokens=63)
        return engine.step(1e-2, loss).read()[0]

    taught = build()
    before = {name: tensor.clone() for name, tensor in taught.whole_state().items()}
    for _ in range(3):
        step(taught)
    wrapped = taught._engine.optimizer
    states = list(getattr(wrapped, "optimizer", wrapped).state.values())
    assert states
    assert all(float(state["exp_avg"].abs().sum()) > 0 for state in states)
    after = {name: tensor.clone() for name, tensor in taught.whole_state().items()}
    assert any(not torch.equal(before[name], after[name]) for name in before)

    taught.forget_optimizer()
    assert all(float(torch.as_tensor(value).abs().sum()) == 0 for state in states for value in state.values())
    assert all(torch.equal(after[name], tensor) for name, tensor in taught.whole_state().items())

    # From here onward it must match an engine that has just been given these weights.
    newborn = build()
    if stage != 3:
        newborn._engine.module.lm.load_state_dict(after, strict=False)
        if stage:
            newborn._engine.optimizer.refresh_fp32_params()
        assert [step(taught) for _ in range(3)] == pytest.approx([step(newborn) for _ in range(3)], rel=1e-6)
    taught.close()
    newborn.close()
