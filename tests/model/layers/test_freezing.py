"""Patterns of parameter names: what they choose, and what is refused."""

from __future__ import annotations

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.model.layers.freezing import freeze, frozen_names, parameter_names
from cpt_ray.model.parameters import flops_per_token, trained_shape
from cpt_ray.model.shape import describe_model
from tests.evaluate.tiny import build_model

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_patterns_freeze_what_they_choose_and_nothing_else():
    model = build_model(200)
    before = trained(model)
    found = freeze(model, ["*.layers.[0-0].*", "model.norm.weight"])
    assert found == [name for name, _ in model.named_parameters() if ".layers.0." in name or name == "model.norm.weight"]
    assert len(found) == 10
    assert trained(model) == before - set(found)


def test_a_tied_weight_is_frozen_by_any_of_its_names_and_counts_once():
    for pattern in (EMBEDDING, "lm_head.*"):
        model = build_model(200)
        assert parameter_names(model)[HEAD] == EMBEDDING
        assert freeze(model, [pattern]) == [EMBEDDING]
        assert not model.lm_head.weight.requires_grad


def test_without_patterns_everything_trains():
    model = build_model(200)
    assert freeze(model, []) == []
    assert trained(model) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("model.embed_token.*", EMBEDDING),
        ("*.layer.[0-7].mlp.*", "model.layers.0.mlp"),
        ("*.layers.7.*", "model.layers.0."),
        ("MODEL.NORM.*", "model."),
        ("[0-9]", "model."),
        ("", "model."),
    ],
)
def test_a_pattern_that_chooses_nothing_is_refused_with_near_names(pattern, near):
    with pytest.raises(ConfigError) as caught:
        freeze(build_model(200), ["model.norm.*", pattern])
    assert caught.value.problem == f"train.freeze: {pattern!r} matches no parameter of LlamaForCausalLM"
    assert near in caught.value.fix
    assert caught.value.fix.startswith("near names: ")


def test_patterns_that_leave_nothing_to_train_are_refused():
    names = {name: name for name in ("a.weight", "a.bias", "b.weight")}
    assert frozen_names(["a.*"], names, "Tiny") == ["a.weight", "a.bias"]
    with pytest.raises(ConfigError) as caught:
        frozen_names(["a.*", "*.weight"], names, "Tiny")
    assert caught.value.problem == "train.freeze: a.*, *.weight choose all 3 parameters of Tiny, and none would train"
    assert caught.value.fix == "take out or narrow a pattern"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("patterns", [["model.embed_tokens.*"], ["lm_head.*"], ["*.layers.0.*", "model.embed_tokens.*"]])
def test_a_plan_counts_what_training_trains(patterns, tied):
    model = build_model(200)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = type(model.lm_head.weight)(model.lm_head.weight.detach().clone())
    described = describe_model(model, None)
    shape = trained_shape(described, lora=None, freeze=patterns)
    whole = trained_shape(described, lora=None, freeze=())
    freeze(model, patterns)
    assert shape.trained_parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert whole.trained_parameters == whole.parameters == shape.parameters > shape.trained_parameters
    # An embedding that is only looked up has no product, so freezing it saves no FLOPs.
    lookup = 0 if tied or patterns == ["lm_head.*"] else 200 * 64
    saved = flops_per_token(whole, 10) - flops_per_token(shape, 10)
    assert saved == 2 * (shape.frozen_parameters - lookup)
