"""What the engine offers besides the stages: adapters, compilation, precision, evaluation mode."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.errors import ConfigError
from tests.model.layers.test_fused import build as build_other
from tests.train.engine.zero_cases import (
    RATE,
    STEPS,
    Case,
    T,
    build_engine,
    engine_trains,
    reference_trains,
    rows,
    train_config,
    train_steps,
    write_model,
)

os.environ["DS_ACCELERATOR"] = "cpu"

LORA = LoraSection(rank=4, alpha=16, dropout=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("engine") / "model", tied=True)


@pytest.mark.parametrize("case", [Case(0, "bf16"), Case(1, "fp32"), Case(2, "bf16", "optimizer"), Case(3, "fp32")], ids=str)
def test_adapters_train_at_every_stage_and_their_export_is_a_plain_model(zero_groups, folder, tmp_path, case):
    results = zero_groups.of(2).run(lora_run, str(folder), case, str(tmp_path))
    assert results[0] == results[1]
    merged, base = load_file(tmp_path / "fp32" / "model.safetensors"), load_file(folder / "model.safetensors")
    assert set(merged) == set(base)
    moved = {name for name in base if not torch.equal(merged[name], base[name].float())}
    assert moved == {name for name in base if "_proj" in name}
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "fp32")
    ids = rows(99)[0][0]
    with torch.no_grad():
        log_p = torch.log_softmax(reloaded(ids[None]).logits[0], -1)
    nats = -log_p[: T - 1].gather(1, ids[1:, None])[:, 0]
    tolerance = 1e-4 if case.precision == "fp32" else 0.15
    torch.testing.assert_close(torch.tensor(results[0]["nats"]), nats, atol=tolerance, rtol=0)


def lora_run(folder, case, out):
    return engine_trains(folder, case, out, lora=LORA)


def lora_resumes(folder, case, checkpoint):
    """Losses of the second half of a run, in the same engine and after a load into a fresh one."""
    whole = build_engine(folder, case, lora=LORA)
    train_steps(whole, 0, 2)
    whole.save(Path(checkpoint))
    expected = train_steps(whole, 2, STEPS)
    whole.close()
    again = build_engine(folder, case, lora=LORA)
    again.load(Path(checkpoint))
    found = train_steps(again, 2, STEPS)
    again.close()
    return expected, found


@pytest.mark.parametrize("case", [Case(2, "bf16"), Case(3, "fp32")], ids=str)
def test_a_resumed_lora_run_with_dropout_equals_an_undisturbed_one_bitwise(zero_groups, folder, tmp_path, case):
    for expected, found in zero_groups.of(2).run(lora_resumes, str(folder), case, str(tmp_path)):
        assert found == expected


def lora_losses(folder, case):
    engine = build_engine(folder, case, lora=LORA)
    losses = [loss for loss, _ in train_steps(engine, 0, STEPS)]
    engine.close()
    return engine.dropout, losses


def test_any_number_of_workers_drops_the_same_activations(zero_groups, folder):
    (dropout, alone), *_ = zero_groups.of(1).run(lora_losses, str(folder), Case(2, "fp32"))
    (_, both), *_ = zero_groups.of(2).run(lora_losses, str(folder), Case(2, "fp32"))
    assert dropout.startswith("0.1 in 14 layers; masks by seed")
    assert both == pytest.approx(alone, abs=1e-5)


TABLES = ("model.embed_tokens.weight", "lm_head.weight")
LOWER = ("model.embed_tokens.*", "*.layers.[0-0].*")
FROZEN = ("model.embed_tokens.", "model.layers.0.")
PARTS = [
    Case(0, "fp32"),
    Case(1, "fp32"),
    Case(2, "fp32", tied=False),
    Case(3, "fp32", tied=False),
    Case(2, "bf16"),
    Case(3, "bf16"),
]


@pytest.fixture(scope="module")
def untied(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("engine") / "untied", tied=False)


def trains_parts(folder, case, out, changes):
    return engine_trains(folder, case, out, **changes)


@pytest.mark.parametrize("case", PARTS, ids=str)
def test_embeddings_and_head_train_at_their_own_rate_at_every_stage(zero_groups, folder, untied, tmp_path, case):
    base = folder if case.tied else untied
    results = zero_groups.of(2).run(trains_parts, str(base), case, str(tmp_path), {"embedding_learning_rate_factor": 0.2})
    expected, master = reference_trains(base, case.precision, embedding_factor=0.2)
    without, _ = reference_trains(base, case.precision)
    bound = 1e-5 if case.precision == "fp32" else 1e-2
    assert [loss for loss, _ in results[0]["losses"]] == pytest.approx([loss for loss, _ in expected], abs=bound)
    assert max(abs(one - other) for (one, _), (other, _) in zip(expected, without, strict=True)) > 2 * bound
    moved = {name: tensor - load_file(base / "model.safetensors")[name].float() for name, tensor in master.items()}
    trained = load_file(tmp_path / "fp32" / "model.safetensors")
    for name, tensor in trained.items():
        share = 1e-4 if case.precision == "fp32" else 0.5
        assert (tensor - master[name]).norm() <= share * moved[name].norm()
        assert (moved[name].abs().max() < STEPS * RATE / 4) == (name in TABLES)


@pytest.mark.parametrize("case", PARTS, ids=str)
def test_frozen_weights_stay_those_of_the_base_bit_for_bit_and_the_rest_trains(zero_groups, folder, untied, tmp_path, case):
    base = folder if case.tied else untied
    changes = {"freeze": LOWER, "gradient_checkpointing": case.stage == 3, "fuse_projections": True}
    results = zero_groups.of(2).run(trains_parts, str(base), case, str(tmp_path), changes)
    assert results[0] == results[1]
    expected, master = reference_trains(base, case.precision, frozen=FROZEN)
    bound = 1e-5 if case.precision == "fp32" else 1e-2
    assert [loss for loss, _ in results[0]["losses"]] == pytest.approx([loss for loss, _ in expected], abs=bound)
    start = load_file(base / "model.safetensors")
    exact, rounded = (load_file(tmp_path / name / "model.safetensors") for name in ("fp32", "bf16"))
    for name, tensor in start.items():
        assert torch.equal(rounded[name], tensor) == name.startswith(FROZEN)
        assert torch.equal(exact[name], tensor.float()) == name.startswith(FROZEN)
        moved = (master[name] - tensor.float()).norm()
        assert (exact[name] - master[name]).norm() <= (1e-4 if case.precision == "fp32" else 0.5) * moved


def states_of(folder, case):
    """The parameters with optimizer state on this rank, and gradients of frozen ones, after a step."""
    engine = build_engine(folder, case, freeze=LOWER)
    train_steps(engine, 0, 1)
    held = sum(state["exp_avg"].numel() for state in engine._base_optimizer.state.values())
    gradients = [name for name, p in engine.lm.named_parameters() if not p.requires_grad and p.grad is not None]
    engine.close()
    return held, gradients


@pytest.mark.parametrize("case", [Case(0, "fp32"), Case(1, "bf16"), Case(3, "bf16")], ids=str)
def test_frozen_weights_have_no_gradient_and_no_optimizer_state(zero_groups, folder, case):
    results = zero_groups.of(2).run(states_of, str(folder), case)
    trained = sum(t.numel() for name, t in load_file(folder / "model.safetensors").items() if not name.startswith(FROZEN))
    shares = 1 if case.stage == 0 else 2
    for held, gradients in results:
        assert trained / shares <= held <= trained / shares + 64  # padding
        assert gradients == []


FUSED = "q_proj+k_proj+v_proj in 2 layers, gate_proj+up_proj in 2 layers"
TRAINED = [Case(2, "fp32"), Case(3, "fp32"), Case(0, "fp32"), Case(0, "bf16"), Case(1, "bf16"), Case(3, "bf16", "parameters")]
LOADED = [Case(3, "fp32"), Case(0, "fp32"), Case(0, "bf16"), Case(1, "bf16"), Case(2, "fp32")]


def some_in_ci(cases):
    return [pytest.param(case, marks=() if number < 2 else pytest.mark.full, id=str(case)) for number, case in enumerate(cases)]


def fused_and_not(folder, case):
    """What is fused, the weights before and after training, and the losses, without fusion and with it."""
    found = []
    for fuse in (False, True):
        engine = build_engine(folder, case, fuse_projections=fuse, gradient_checkpointing=case.stage == 3)
        start = engine.whole_state()
        losses = train_steps(engine, 0, STEPS)
        gathered = [name for name, p in engine.lm.named_parameters() if case.stage == 3 and p.numel() and not p.ds_persist]
        found.append((engine.projections, start, losses, engine.whole_state(), gathered))
        engine.close()
    return found


@pytest.mark.parametrize("case", some_in_ci(TRAINED))
@pytest.mark.accept(gpu=3)
def test_fused_projections_train_to_the_same_weights_at_every_stage(zero_groups, folder, case):
    results = zero_groups.of(2).run(fused_and_not, str(folder), case)
    separate, fused = results[0]
    assert (separate[0], fused[0]) == ("separate projections", FUSED)
    base = load_file(folder / "model.safetensors")
    for state in (separate[1], fused[1]):  # before the first step bit for bit, and under the base's names
        assert set(state) == set(base)
        assert all(torch.equal(state[name], base[name].float()) for name in base)
    bounds = {"fp32": (1e-5, 1e-6), "bf16": (1e-2, 5e-2)}[case.precision]
    for (loss, norm), (expected, expected_norm) in zip(fused[2], separate[2], strict=True):
        assert loss == pytest.approx(expected, abs=bounds[0])
        assert norm == pytest.approx(expected_norm, rel=bounds[0])
    for name, weight in separate[3].items():
        assert (weight - base[name].float()).abs().max() > 1e-3
        torch.testing.assert_close(fused[3][name], weight, atol=bounds[1], rtol=0)
    assert fused[4] == []  # at stage 3 nothing stays gathered


def loads_of_each_other(folder, case, out):
    """For a state written with fusion and one without: itself and its figures, as loaded by the other, and steps after both."""
    found = []
    for fuse in (True, False):
        sides = []
        for side in (fuse, not fuse):
            engine = build_engine(folder, case, fuse_projections=side)
            if side == fuse:
                train_steps(engine, 0, 2)
                engine.save(Path(out) / str(fuse))
            else:
                engine.load(Path(out) / str(fuse))
            figures = engine.state_figures(100).model_dump(exclude={"loss"})
            sides.append((engine.projections, figures, engine.whole_state(), train_steps(engine, 2, STEPS)))
            engine.close()
        found.append(sides)
    return found


@pytest.mark.parametrize("case", some_in_ci(LOADED))
@pytest.mark.accept(gpu=3)
def test_a_state_is_the_same_with_and_without_fusion(zero_groups, folder, tmp_path, case):
    for sides in zero_groups.of(2).run(loads_of_each_other, str(folder), case, str(tmp_path)):
        for (one, figures, state, losses), (other, loaded_figures, loaded, loaded_losses) in sides:
            assert {one, other} == {"separate projections", FUSED}
            assert figures == loaded_figures  # norms of weights and moments, and the step count: to the last bit
            assert figures["optimizer_steps"] >= 2
            assert set(state) == set(loaded)
            assert all(torch.equal(state[name], loaded[name]) for name in state)
            bound = 1e-5 if case.precision == "fp32" else 1e-2
            assert [loss for loss, _ in loaded_losses] == pytest.approx([loss for loss, _ in losses], abs=bound)


def what_is_said(build):
    """What `build` returns, and what is logged about fusion meanwhile."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append((record.levelname, record.getMessage()))
    logging.getLogger("cpt_ray").addHandler(handler)
    logging.getLogger("cpt_ray").setLevel(logging.INFO)
    found = build()
    logging.getLogger("cpt_ray").removeHandler(handler)
    return found, [message for message in said if "fuse" in message[1]]


def fused_with(folder, lora, fuse):
    def build():
        engine = build_engine(folder, Case(2, "fp32"), lora=lora, fuse_projections=fuse)
        engine.close()
        return engine.projections

    return what_is_said(build)


def fused_where_nothing_fits():
    from cpt_ray.train.engine.engine import _fuse

    train = train_config("fp32", fuse_projections=True)
    return what_is_said(lambda: _fuse(build_other("GPTNeoX"), train, torch.device("cpu")))


def test_what_cannot_be_fused_is_said_and_a_cpu_fuses_only_if_told_to(zero_groups, folder):
    group = zero_groups.of(1)
    without_effect = "train.fuse_projections has no effect: "
    told = ("WARNING", without_effect + "train.lora adapts each layer by its name")
    assert group.run(fused_with, str(folder), LORA, True) == [("separate projections", [told])]
    assert group.run(fused_with, str(folder), LORA, "auto") == [("separate projections", [])]
    assert group.run(fused_with, str(folder), None, "auto") == [("separate projections", [])]
    assert group.run(fused_with, str(folder), None, True) == [(FUSED, [])]
    told = ("WARNING", without_effect + "GPTNeoXForCausalLM has no layers that fit")
    assert group.run(fused_where_nothing_fits) == [("separate projections", [told])]


def refused(folder, precision):
    try:
        build_engine(folder, Case(1, precision))
    except ConfigError as error:
        return str(error)
    return None


ONE_STEP = """
import os, sys
os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
import torch.distributed as dist
from tests.train.engine.zero_cases import Case, build_engine, train_steps

dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=0, world_size=1)
print(train_steps(build_engine(sys.argv[1], Case(2, "fp32")), 0, 1))
"""


def test_training_on_a_cpu_builds_no_operator_and_needs_no_compiler(folder, tmp_path):
    place = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "operators"), "CXX": "none", "CC": "none", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", ONE_STEP, str(folder), str(tmp_path / "meeting")]
    ran = subprocess.run(command, env={**os.environ, **place}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].startswith("[(")
    assert not (tmp_path / "operators").exists()


def test_fp16_on_a_cpu_is_refused(zero_groups, folder):
    (message,) = zero_groups.of(1).run(refused, str(folder), "fp16")
    assert message == "train.precision is fp16, which needs a GPU\n  fix: set train.precision=bf16, or fp32"
