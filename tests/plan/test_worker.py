"""What a worker holds beside model states, on a CPU and on a GPU, and against measured peaks."""

from __future__ import annotations

import json

import pytest

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.plan.memory import Work, estimate_memory
from cpt_ray.plan.worker import HOST_BASE, Place, worker_bytes
from cpt_ray.records import ModelShape
from tests.integration.tiny_study import REPOSITORY

_BODY = 16 * (2 * 384 * 64 * 8 + 3 * 384 * 1024 + 2 * 384) + 384
SMALL = ModelShape(
    parameters=_BODY + 16384 * 384, body_parameters=_BODY, hidden_size=384, num_layers=16, num_heads=6, head_dim=64,
    vocabulary_size=16384, tied=True, num_key_heads=2, feedforward_size=1024,
)  # fmt: skip
MEASURED = {
    # (ZeRO stage, workers, rows, settings) to megabytes of the highest resident memory (docs/log.md, 2026-11-29)
    (0, 1, 1, ""): 1420, (1, 1, 1, ""): 1643, (2, 1, 1, ""): 1648, (2, 1, 2, ""): 1856, (2, 1, 4, ""): 2188,
    (3, 1, 1, ""): 1799, (3, 1, 4, ""): 2319, (2, 1, 4, "recomputed"): 1587, (2, 1, 1, "offload"): 1857,
    (0, 1, 1, "fp32"): 1760,
    (2, 1, 1, "fp32"): 2095, (1, 2, 2, ""): 1699, (2, 2, 1, ""): 1456, (3, 2, 1, ""): 1469,
}  # fmt: skip


def settings(**train: object) -> TrainConfig:
    tree = {"budgets": [10], "learning_rate": 1e-4, "global_batch_size": 4, "deepspeed": "ds.json", **train}
    return TrainConfig.model_validate(tree)


def zero_of(stage: int, *, offload: bool = False):
    tree = json.loads((REPOSITORY / f"ds_configs/zero{stage}_bf16.json").read_text()) if stage else {}
    if offload:
        tree["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    return check_deepspeed(tree, "ds.json")


@pytest.mark.parametrize("case", MEASURED, ids=str)
def test_the_estimate_of_a_process_on_a_cpu_is_near_what_was_measured(case):
    stage, workers, rows, how = case
    train = settings(
        micro_batch_size=rows, gradient_checkpointing=how == "recomputed", precision="fp32" if how == "fp32" else "bf16"
    )
    plan = estimate_memory(
        "m",
        shape=SMALL,
        deepspeed=zero_of(stage, offload=how == "offload"),
        train=train,
        num_workers=workers,
        work=Work(Place(on_gpu=False, process="bare"), 512),
    )
    assert plan.peak_bytes / 1e6 == pytest.approx(MEASURED[case], rel=0.15)


def parts(stage: int, workers: int, *, on_gpu: bool, ray: bool = False):
    place, train = Place(on_gpu=on_gpu, process="ray" if ray else "bare"), settings()
    return worker_bytes(SMALL, zero_of(stage), train, num_workers=workers, pass_tokens=512, place=place, compiled=on_gpu)


def test_without_zero_there_are_no_buffers_and_under_ray_the_process_is_larger():
    assert parts(0, 1, on_gpu=False).buffers == 0
    assert parts(0, 1, on_gpu=False).base == HOST_BASE < parts(0, 1, on_gpu=False, ray=True).base


def test_a_bucket_is_no_larger_than_the_gradients_and_gathered_weights_come_with_stage_3():
    # 20 million elements of 2 bytes; the update's 138 MB of fp32 gradients are there when activations and loss are gone.
    found = parts(2, 1, on_gpu=True)
    assert found.buffers == 40_000_000 + max(0, 4 * SMALL.parameters - found.activations - found.loss)
    third = parts(3, 8, on_gpu=True)
    step = max(0, 4 * SMALL.parameters // 8 - third.activations - third.loss)
    assert third.buffers == 2 * 2 * 384 * 384 + 2 * SMALL.parameters + step


def test_on_a_gpu_the_runtime_is_the_card_s_context_and_libraries_take_host_memory():
    one, many = parts(2, 1, on_gpu=True), parts(2, 2, on_gpu=True)
    assert many.base - one.base == 400 << 20
    assert one.host > 2_000_000_000
    assert parts(2, 1, on_gpu=False).host == 0
