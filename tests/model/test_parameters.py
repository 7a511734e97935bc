"""Parameter and FLOP arithmetic by hand."""

from __future__ import annotations

import pytest

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.errors import ConfigError
from cpt_ray.model.parameters import flops_per_token, trained_shape
from cpt_ray.records import ImportedModel, ModelShape

SMOLLM2 = ModelShape(
    parameters=134_515_008, body_parameters=106_203_456, hidden_size=576, num_layers=30, num_heads=9, head_dim=64,
    vocabulary_size=49152, tied=True,
)  # fmt: skip


def test_flops_of_smollm2_at_2048_causal_tokens():
    # 6 * 134.5M + 12 * 30 * 9 * 64 * 1024: 1.019e9 by the field's common formula
    assert flops_per_token(SMOLLM2, 1024) == pytest.approx(1.0194e9, rel=1e-3)


TINY = ImportedModel(
    architecture="TinyForCausalLM",
    shape=ModelShape(
        parameters=50_000, body_parameters=37_200, hidden_size=64, num_layers=2, num_heads=4, head_dim=16, vocabulary_size=200,
        tied=True,
    ),
    linear_sizes={"q_proj": 2 * (64 + 64), "down_proj": 2 * (128 + 64)},
    parameter_sizes={"embed.weight": 12_800, "layers.weight": 37_200},
    tied_names={"head.weight": "embed.weight"},
    input_embedding="embed.weight",
    end_of_text="<eot>",
    added_bos=None,
    special_tokens=("<eot>",),
)  # fmt: skip


def test_without_adapters_the_shape_is_the_models():
    assert trained_shape(TINY, lora=None, freeze=()) is TINY.shape
    assert TINY.shape.trained_parameters == 50_000


def test_adapters_are_counted_apart_and_frozen_weights_cost_two_thirds():
    full, adapted = TINY.shape, trained_shape(TINY, lora=LoraSection(rank=4, alpha=8), freeze=())
    assert adapted.adapter_parameters == 4 * (2 * (64 + 64) + 2 * (128 + 64))
    assert (adapted.parameters, adapted.trained_parameters) == (full.parameters, adapted.adapter_parameters)
    matrices = full.body_parameters + 200 * 64
    assert flops_per_token(full, 10) - flops_per_token(adapted, 10) == 2 * matrices - 6 * adapted.adapter_parameters


def test_a_target_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match="TinyForCausalLM has no linear layer called c_attn") as error:
        trained_shape(TINY, lora=LoraSection(rank=2, alpha=2, target_modules=("q_proj", "c_attn")), freeze=())
    assert error.value.fix == "choose from q_proj, down_proj"
