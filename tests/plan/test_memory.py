"""Model states per worker, compared with the ZeRO paper's figures, in bytes per parameter."""

from typing import Any

import pytest

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.plan.memory import estimate_memory
from cpt_ray.records import ModelShape
from tests.plan.planned import WORK

SHAPE = ModelShape(
    parameters=7_500_000_000,
    body_parameters=7_000_000_000,
    hidden_size=4096,
    num_layers=32,
    num_heads=32,
    head_dim=128,
    vocabulary_size=32000,
    tied=False,
)
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}


def make_train(precision: str = "bf16") -> TrainConfig:
    return TrainConfig.model_validate(
        {"budgets": [10], "learning_rate": 1e-4, "global_batch_size": 1, "deepspeed": "ds.json", "precision": precision}
    )


def estimate(stage: int, workers: int, precision: str = "bf16", sums: str | None = None, **zero: Any):
    return estimate_memory(
        "m",
        shape=SHAPE,
        deepspeed=check_deepspeed(
            {
                "zero_optimization": {"stage": stage, **zero},
                **({"data_types": {"grad_accum_dtype": sums}} if sums else {}),
            },
            "ds.json",
        ),
        train=make_train(precision),
        num_workers=workers,
        work=WORK,
    )


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.88)])
def test_stages_match_figure_1_of_the_zero_paper(stage, gigabytes):
    # Rajbhandari et al. 2020, figure 1: 7.5B parameters, 64 workers, K = 12, gradients in 16 bits.
    assert estimate(stage, 64, sums="bf16").device_bytes / 1e9 == pytest.approx(gigabytes, rel=5e-3)


def test_one_worker_has_nothing_to_share():
    assert len({estimate(stage, 1, sums="bf16").device_bytes for stage in (0, 1, 2, 3)}) == 1


def test_gradients_summed_in_fp32_take_two_bytes_more_which_stage_2_shares():
    extra = [estimate(stage, 4).device_bytes - estimate(stage, 4, sums="bf16").device_bytes for stage in (0, 1, 2, 3)]
    assert extra == [0, 2 * SHAPE.parameters, SHAPE.parameters / 2, SHAPE.parameters / 2]


def test_fp32_without_zero_has_no_master_copy_and_with_it_has():
    assert estimate(0, 1, "fp32").device_bytes == 16 * SHAPE.parameters
    assert estimate(1, 1, "fp32").device_bytes == 20 * SHAPE.parameters


def test_offload_moves_optimizer_and_gradients_to_the_host_and_loses_nothing():
    offloaded = estimate(2, 4, **OFFLOAD)
    assert offloaded.device_bytes == 2 * SHAPE.parameters
    assert offloaded.host_bytes == 16 * SHAPE.parameters // 4
    both = estimate(3, 4, **OFFLOAD, offload_param={"device": "nvme"})
    assert both.device_bytes == 0
    assert both.host_bytes == both.weights_bytes + both.gradients_bytes + both.optimizer_bytes


def test_frozen_weights_have_no_gradient_and_no_optimizer_state():
    frozen = SHAPE.model_copy(update={"frozen_parameters": 2_500_000_000})
    settings = {"deepspeed": check_deepspeed({"zero_optimization": {"stage": 2}}, "ds.json"), "num_workers": 4, "work": WORK}
    plan, whole = (estimate_memory("m", shape=shape, train=make_train(), **settings) for shape in (frozen, SHAPE))
    trained = SHAPE.parameters - plan.frozen_parameters
    assert (plan.weights_bytes, plan.gradients_bytes, plan.optimizer_bytes) == (whole.weights_bytes, trained, 3 * trained)
    assert plan.checkpoint_bytes == 2 * SHAPE.parameters + 12 * trained
    assert (plan.export_bytes, whole.frozen_parameters) == (whole.export_bytes, 0)


@pytest.mark.parametrize(("optimizer", "stage", "bytes_each"), [("adamw", 0, 14), ("adamw_8bit", 0, 8), ("adafactor", 0, 6)])
def test_other_optimizers_keep_smaller_moments(optimizer, stage, bytes_each):
    train = make_train().model_copy(update={"optimizer": optimizer})
    deepspeed = check_deepspeed({"zero_optimization": {"stage": stage}}, "ds.json")
    plan = estimate_memory("m", shape=SHAPE, deepspeed=deepspeed, train=train, num_workers=1, work=WORK)
    assert plan.checkpoint_bytes == bytes_each * SHAPE.parameters


def test_offload_to_nowhere_is_no_offload():
    assert estimate(2, 4, offload_optimizer={"device": "none"}).host_bytes == 0


def test_a_checkpoint_has_the_states_and_an_export_the_weights():
    plan = estimate_memory(
        "m", shape=SHAPE, deepspeed=check_deepspeed({}, "ds.json"), train=make_train(), num_workers=1, work=WORK
    )
    assert plan.checkpoint_bytes == 14 * SHAPE.parameters
    assert plan.export_bytes == 2 * SHAPE.parameters
