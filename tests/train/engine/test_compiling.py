"""Compiled layers under DeepSpeed: the losses of eager ones at every stage, and one decision for all workers."""

from __future__ import annotations

import json
import os

import pytest

from cpt_ray.config.sections.models.adapter import LoraSection
from tests.train.engine.compiled_cases import one_cannot_compile, train_both
from tests.train.engine.zero_cases import Case, write_model

os.environ["DS_ACCELERATOR"] = "cpu"

FUSED = {"fuse_projections": True}  # as on a GPU
FREEZE = {"freeze": ("model.embed_tokens.*", "*.layers.[0-0].*")}
LORA = {"lora": LoraSection(rank=4, alpha=16, dropout=0.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("compiling") / "model", tied=True)


def check(results, case):
    loss_bound, weights_bound = (1e-5, 1e-3) if case.precision == "fp32" else (2e-3, 0.3)
    for found in results:
        assert json.loads(found["compiled"])["active"], found["compiled"]
        proof = json.loads(found["proof"])
        assert proof["passed"]
        assert proof["gradient_leak"] == 0 < proof["gradient_control"]
        assert [loss for loss, _ in found["losses"]] == pytest.approx([loss for loss, _ in found["expected"]], rel=loss_bound)
        assert len({loss for loss, _ in found["losses"]}) == 4, "the steps must have changed the weights"
        assert found["graphs after warm-up"] == 0
        assert found["weights apart"] < weights_bound


@pytest.mark.slow
@pytest.mark.accept(gpu=2)
def test_compiled_layers_train_like_eager_ones(zero_groups, folder):
    case = Case(2, "fp32")
    check(zero_groups.of(1).run(train_both, str(folder), case, {}, timeout_s=900), case)


RECOMPUTE = {"gradient_checkpointing": True}


@pytest.mark.full  # a minute of the C++ compiler each
@pytest.mark.parametrize(
    ("workers", "case", "changes"),
    [
        pytest.param(workers, case, changes, id=f"{case}-{'-'.join(changes) or 'plain'}-on-{workers}")
        for workers, case, changes in (
            (1, Case(0, "fp32"), {}),
            (2, Case(1, "fp32"), {}),
            (2, Case(1, "bf16"), {}),
            (1, Case(2, "bf16", "optimizer"), {}),
            (1, Case(3, "fp32"), {}),
            (2, Case(3, "fp32"), {}),
            (2, Case(3, "bf16"), {}),
            (1, Case(3, "fp32", "parameters"), {}),
            (1, Case(2, "fp32"), LORA),
            (2, Case(3, "fp32"), LORA),
            (1, Case(2, "fp32"), FREEZE),
            (2, Case(3, "fp32"), FREEZE),
            (2, Case(1, "fp32"), RECOMPUTE),
            (1, Case(3, "fp32"), RECOMPUTE),
            (2, Case(3, "bf16"), {**RECOMPUTE, **LORA}),
            (1, Case(2, "bf16"), FUSED),
            (2, Case(3, "fp32"), FUSED),
            (1, Case(3, "fp32"), {**RECOMPUTE, **FUSED}),
        )
    ],
)
@pytest.mark.accept(gpu=3)
def test_compiled_layers_train_like_eager_ones_at_every_stage(zero_groups, folder, workers, case, changes):
    check(zero_groups.of(workers).run(train_both, str(folder), case, changes, timeout_s=900), case)


def test_if_one_worker_cannot_compile_none_does(zero_groups, folder):
    found = zero_groups.of(2).run(one_cannot_compile, str(folder))
    assert found == [("worker 1: RuntimeError: no compiler on this machine", False)] * 2
