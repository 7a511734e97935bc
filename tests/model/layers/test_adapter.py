"""LoRA adapters: fresh ones change nothing, merged ones reproduce the adapter model's logits, and they are counted."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.errors import ConfigError
from cpt_ray.model.layers.adapter import add_adapters, merged
from tests.evaluate.tiny import build_model

LORA = LoraSection(rank=4, alpha=8, target_modules=("q_proj", "down_proj"))


def logits(model):
    with torch.no_grad():
        return model(torch.arange(30)[None]).logits


def test_only_adapters_train_and_fresh_ones_change_nothing():
    plain, adapted = build_model(200), build_model(200)
    add_adapters(adapted, LORA)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 2  # two layers, two targets, A and B
    assert all(".lora_" in name for name in trained)
    torch.testing.assert_close(logits(adapted), logits(plain))


def test_the_merged_state_is_a_plain_model_with_the_adapters_logits():
    adapted, plain = build_model(200), build_model(200)
    add_adapters(adapted, LORA)
    before = logits(adapted)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    plain.load_state_dict(merged(dict(adapted.named_parameters()), adapted), strict=False)
    assert (logits(adapted) - before).abs().max() > 0.1  # the adapters have an effect
    torch.testing.assert_close(logits(plain), logits(adapted), atol=1e-4, rtol=1e-4)
    assert set(merged(dict(adapted.named_parameters()), adapted)) == {name for name, _ in plain.named_parameters()}


def test_the_seed_decides_the_adapters_and_leaves_other_randomness_alone():
    models = [build_model(200) for _ in range(3)]
    torch.manual_seed(5)
    for model, seed in zip(models, (0, 0, 1), strict=True):
        add_adapters(model, LORA, seed=seed)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    states = [{k: p for k, p in model.named_parameters() if "lora_A" in k} for model in models]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not any(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_no_targets_means_every_linear_layer_but_the_head():
    model = build_model(200)
    add_adapters(model, LoraSection(rank=2, alpha=2))
    adapted = {name.rpartition(".lora_A")[0] for name, _ in model.named_parameters() if "lora_A" in name}
    assert {name.rpartition(".")[2] for name in adapted} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert len(adapted) == 14


def test_a_target_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match="LlamaForCausalLM has no linear layer called c_attn") as error:
        add_adapters(build_model(200), LoraSection(rank=2, alpha=2, target_modules=("c_attn",)))
    assert "q_proj" in error.value.fix
