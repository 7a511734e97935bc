"""What the engine offers besides the stages: adapters, compilation, precision, evaluation mode."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from cpt_ray.config.sections.adapter import LoraSection
from cpt_ray.errors import ConfigError
from tests.train.engine.zero_cases import STEPS, Case, T, build_engine, engine_trains, rows, train_steps, write_model

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


def refused(folder, precision):
    try:
        build_engine(folder, Case(1, precision))
    except ConfigError as error:
        return str(error)
    return None


def test_fp16_on_a_cpu_is_refused(zero_groups, folder):
    (message,) = zero_groups.of(1).run(refused, str(folder), "fp16")
    assert message == "train.precision is fp16, which needs a GPU\n  fix: set train.precision=bf16, or fp32"
