"""Optimizers besides AdamW: they train as they do without DeepSpeed, resume, and are refused where their states would break."""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers.optimization import Adafactor

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import RunRecord
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.engine.optimizer_kinds import KINDS, check_optimizer
from tests.train.checkpoint import resume_jobs
from tests.train.engine.zero_cases import (
    STEPS,
    Case,
    build_engine,
    engine_trains,
    reference_trains,
    train_config,
    train_steps,
    write_model,
)

os.environ["DS_ACCELERATOR"] = "cpu"

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes, of the extra gpu, is not installed"
)
SETTINGS = {"budgets": [4300], "checkpoint_every": 700, "keep_checkpoints": 99, "global_batch_size": 6, "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("optimizers") / "model", tied=True)


def trains_with(folder, case, out, optimizer):
    return engine_trains(folder, case, out, optimizer=optimizer)


@pytest.mark.parametrize("case", [Case(0, "fp32"), Case(0, "bf16")], ids=str)
def test_adafactor_trains_as_without_deepspeed(zero_groups, folder, tmp_path, case):
    results = zero_groups.of(2).run(trains_with, str(folder), case, str(tmp_path), "adafactor")
    assert results[0] == results[1]
    plain = partial(Adafactor, lr=0.0, scale_parameter=False, relative_step=False)
    expected, master = reference_trains(folder, case.precision, optimizer=plain)
    bound, share = (1e-5, 1e-3) if case.precision == "fp32" else (2e-2, 0.5)
    assert [loss for loss, _ in results[0]["losses"]] == pytest.approx([loss for loss, _ in expected], abs=bound)
    start, found = load_file(folder / "model.safetensors"), load_file(tmp_path / "fp32" / "model.safetensors")
    for name, tensor in found.items():
        moved = (master[name] - start[name].float()).norm()
        assert moved > 0
        assert (tensor - master[name]).norm() <= share * moved


def states_of(folder, case, optimizer):
    """For each tensor of this rank's optimizer: weights, elements of its moments and their types."""
    engine = build_engine(folder, case, optimizer=optimizer)
    losses = [loss for loss, _ in train_steps(engine, 0, STEPS)]
    states = [
        (
            weights.numel(),
            {key: (state[key].numel(), str(state[key].dtype)) for key in KINDS[optimizer].moments if key in state},
        )
        for weights, state in engine._base_optimizer.state.items()
    ]
    before = engine.whole_state()
    engine.forget_optimizer()
    cleared = all(
        float(state[key].abs().sum()) == 0
        for state in engine._base_optimizer.state.values()
        for key in KINDS[optimizer].moments
        if key in state
    )
    after = engine.whole_state()
    steps = engine.state_figures(160).optimizer_steps
    engine.close()
    return losses, states, cleared and steps == 0 and all(torch.equal(before[name], after[name]) for name in before)


def test_adafactor_keeps_rows_and_columns_and_can_forget_them(zero_groups, folder):
    ((_, states, forgotten),) = zero_groups.of(1).run(states_of, str(folder), Case(0, "fp32"), "adafactor")
    assert forgotten
    shapes = [tuple(tensor.shape) for tensor in load_file(folder / "model.safetensors").values()]
    matrices = {(a * b, a, b) for a, b in (shape for shape in shapes if len(shape) == 2)}
    kept = {(n, k["exp_avg_sq_row"][0], k["exp_avg_sq_col"][0]) for n, k in states if "exp_avg_sq_row" in k}
    assert kept == matrices
    vectors = [state for _, state in states if "exp_avg_sq_row" not in state]
    assert {next(iter(state.values()))[0] for state in vectors} == {32}


@pytest.mark.parametrize("after", [2, pytest.param(1, marks=pytest.mark.full)])
def test_adafactor_resumes_with_any_number_of_workers_and_not_without_its_moments(root, zero_groups, after):
    settings = {**SETTINGS, "stage": 0, "optimizer": "adafactor"}
    if not (root / "whole").exists():
        assert zero_groups.of(2).run(resume_jobs.train_run, root, "whole", settings) == [None] * 2
    step = checkpoint.committed(root / "whole")[0][1].progress.step
    for name in (f"with-{after}", f"without-{after}"):
        resume_jobs.cut_after(root, "whole", name, step)
    group = zero_groups.of(after)
    assert group.run(resume_jobs.train_run, root, f"with-{after}", settings) == [None] * after
    assert resume_jobs.attempts(root / f"with-{after}")[-1].first_step == step > 0
    lines = [resume_jobs.steps_after(root / name, step) for name in ("whole", f"with-{after}")]
    assert len(lines[0]) >= 10
    assert [m.sample_ids for m in lines[0]] == [m.sample_ids for m in lines[1]]
    off = max(abs(a.loss - b.loss) for a, b in zip(*lines, strict=True))
    assert off == 0 if after == 2 else off <= 1e-5
    for refusal in group.run(resume_jobs.train_without_moments, root, f"without-{after}", settings, True):
        assert "exp_avg_sq_row_norm was" in refusal.problem
        assert "exp_avg_sq_col_norm was" in refusal.problem


@needs_bitsandbytes
@pytest.mark.parametrize("case", [Case(0, "fp32"), Case(1, "bf16"), Case(2, "fp32"), Case(3, "bf16")], ids=str)
def test_8_bit_adamw_keeps_a_byte_for_each_moment_and_trains_like_adamw(zero_groups, tmp_path_factory, case):
    folder = write_model(tmp_path_factory.mktemp("wide") / "model", tied=True)
    results = zero_groups.of(2).run(states_of, str(folder), case, "adamw_8bit")
    expected, _ = reference_trains(folder, case.precision)
    for losses, states, forgotten in results:
        assert losses == pytest.approx([loss for loss, _ in expected], abs=0.05)
        assert forgotten
        # bitsandbytes keeps tensors below 4,096 entries in fp32.
        for weights, state in states:
            assert state["state1"] == state["state2"] == (weights, "torch.uint8" if weights >= 4096 else "torch.float32")
            assert ("absmax1" in state) == (weights >= 4096)
        assert any(weights >= 4096 for weights, _ in states)


@needs_bitsandbytes
@pytest.mark.parametrize("stage", [1, 3])
def test_8_bit_adamw_resumes_with_the_same_workers_bit_for_bit_and_refuses_others(root, zero_groups, stage):
    settings = {**SETTINGS, "stage": stage, "optimizer": "adamw_8bit"}
    whole = f"8bit-{stage}"
    assert zero_groups.of(2).run(resume_jobs.train_run, root, whole, settings) == [None] * 2
    step = checkpoint.committed(root / whole)[0][1].progress.step
    for name in ("again", "lost", "other"):
        resume_jobs.cut_after(root, whole, f"{whole}-{name}", step)
    assert zero_groups.of(2).run(resume_jobs.train_run, root, f"{whole}-again", settings) == [None] * 2
    exports = [
        load_file(Path(RunRecord.load(root / name / "run.json").export_path) / "model.safetensors")
        for name in (whole, f"{whole}-again")
    ]
    assert all(torch.equal(exports[0][name], exports[1][name]) for name in exports[0])
    assert resume_jobs.attempts(root / f"{whole}-again")[-1].first_step == step > 0
    for refusal in zero_groups.of(2).run(resume_jobs.train_without_moments, root, f"{whole}-lost", settings, True):
        assert "state1_norm was" in refusal.problem
    (refusal,) = zero_groups.of(1).run(resume_jobs.train_run, root, f"{whole}-other", settings)
    assert refusal.problem.endswith(
        "written by 2 workers; the quantized moments of adamw_8bit cannot be divided among another number"
    )
    assert refusal.fix == "resume with runtime.workers=2"


def refusal(optimizer, stage, workers=2, **zero):
    deepspeed = check_deepspeed({"zero_optimization": {"stage": stage, **zero}}, "ds.json")
    group = RuntimeConfig.model_validate({"kind": "ray", "workers": workers}).group
    with pytest.raises(ConfigError) as caught:
        check_optimizer(train_config("fp32", optimizer=optimizer), deepspeed, group)
    return caught.value


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_adafactor_on_flat_partitions_is_refused(stage):
    error = refusal("adafactor", stage)
    assert error.problem == (
        f"train.optimizer is adafactor, but train.deepspeed has ZeRO stage {stage}, which flattens weights and shards them: "
        "the rows and columns of a matrix, over which Adafactor sums, are gone"
    )
    assert error.fix.startswith('set train.deepspeed to a file with {"zero_optimization": {"stage": 0}}')


def test_fp16_at_stage_0_is_refused_where_the_loss_would_not_be_scaled():
    group = RuntimeConfig.model_validate({"kind": "ray", "workers": 2}).group
    for stage in (1, 2, 3):
        check_optimizer(train_config("fp16"), check_deepspeed({"zero_optimization": {"stage": stage}}, "ds.json"), group)
    with pytest.raises(ConfigError, match=r"train\.precision is fp16, but train\.deepspeed has ZeRO stage 0") as caught:
        check_optimizer(train_config("fp16"), check_deepspeed({}, "ds.json"), group)
    assert caught.value.fix.startswith("set train.deepspeed to a file of stage 1 to 3")


def test_quantized_states_are_neither_offloaded_nor_divided_anew():
    assert refusal("adamw_8bit", 2, offload_optimizer={"device": "cpu"}).problem == (
        "train.optimizer is adamw_8bit, but train.deepspeed offloads optimizer states, which DeepSpeed steps on the host with "
        "AdamW only"
    )
    error = refusal("adamw_8bit", 2, workers={"min": 1, "max": 2})
    assert error.problem == (
        "train.optimizer is adamw_8bit, but runtime.workers is 1 to 2, and its quantized moments cannot be divided among "
        "another number of workers"
    )
    assert error.fix == "set runtime.workers=2, or train.optimizer=adamw"


@pytest.mark.parametrize(
    ("optimizer", "stage", "workers", "zero"),
    [
        ("adamw", 3, {"min": 1, "max": 2}, {"offload_optimizer": {"device": "cpu"}}),
        ("adamw_8bit", 3, 2, {}),
        ("adamw_8bit", 0, {"min": 1, "max": 2}, {}),
        ("adafactor", 0, {"min": 1, "max": 2}, {}),
    ],
)
def test_what_works_is_accepted(optimizer, stage, workers, zero):
    deepspeed = check_deepspeed({"zero_optimization": {"stage": stage, **zero}}, "ds.json")
    group = RuntimeConfig.model_validate({"kind": "ray", "workers": workers}).group
    check_optimizer(train_config("fp32", optimizer=optimizer), deepspeed, group)
