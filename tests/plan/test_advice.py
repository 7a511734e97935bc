"""The smallest change with which a model fits."""

from __future__ import annotations

import pytest

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.plan.advice import Asked, find_fit
from cpt_ray.plan.memory import Work
from cpt_ray.plan.worker import Place
from cpt_ray.records import Card
from tests.plan.test_published import LLAMA_2_7B

GB = 1_000_000_000


def ask(gigabytes: float, *, workers: int = 8, stage: int = 1, rows: int = 16, gpu: bool = True, **train: object) -> Asked:
    tree = {"budgets": [10], "learning_rate": 1e-4, "global_batch_size": 128, "deepspeed": "ds.json", "micro_batch_size": rows}
    room = int(gigabytes * GB)
    work = Work(Place(on_gpu=gpu, process="ray"), 2048, Card("a card", room) if gpu else None, room)
    zero = check_deepspeed({"zero_optimization": {"stage": stage, "reduce_bucket_size": 20_000_000}}, "ds.json")
    return Asked("7b", LLAMA_2_7B, zero, TrainConfig.model_validate({**tree, **train}), workers, work)


@pytest.mark.parametrize(
    ("asked", "overrides"),
    [
        # Stage 1: weights 13.5, gradients 27.0, optimizer 10.1 GB; a row of 2,048 tokens keeps 8.7 GB.
        (ask(160), ("train.micro_batch_size=8",)),
        # One row does not fit, but its layers' inputs alone do.
        (ask(58), ("train.gradient_checkpointing=true", "train.micro_batch_size=4")),
        # Gradients shared: 3.4 GB.
        (ask(46), ("train.deepspeed=ds_configs/zero2_bf16.json", "train.micro_batch_size=1")),
        # Weights shared too: 1.7 GB.
        (ask(30), ("train.deepspeed=ds_configs/zero3_bf16.json", "train.micro_batch_size=1")),
        # Optimizer and gradients in host memory.
        (ask(20), ("train.deepspeed=ds_configs/zero3_bf16_offload_cpu.json", "train.micro_batch_size=1")),
    ],
)
def test_the_smallest_change_is_found(asked, overrides):
    assert asked.memory().fits is False
    found = find_fit(asked)
    assert found.overrides == overrides
    assert found.memory.fits
    assert found.memory.peak_bytes < asked.memory().peak_bytes


def test_adapters_come_before_more_workers_and_nothing_is_found_where_nothing_helps():
    found = find_fit(ask(40, workers=1, gpu=False))
    assert found.overrides[-2:] == ("train.lora={rank: 16, alpha: 32}", "train.micro_batch_size=1") or "lora" in str(
        found.overrides
    )
    assert find_fit(ask(0.5)).overrides == ()


def test_states_that_cannot_be_sharded_are_not_told_to_be():
    asked = ask(24, workers=1, stage=0, optimizer="adafactor", lora={"rank": 8, "alpha": 16})
    assert not any("deepspeed" in override for override in find_fit(asked).overrides)


def test_the_largest_micro_batch_divides_a_worker_s_rows():
    # 128 rows over 8 workers are 16 each: 1, 2, 4, 8 or 16.
    asked = ask(160)
    assert asked.rows() == 8
    assert asked.with_rows(8).memory().fits
    assert not asked.with_rows(16).memory().fits
    assert ask(10).rows() is None
